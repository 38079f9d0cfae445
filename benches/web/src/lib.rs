//! Two programs that measure web servers: the client `web-load`, and the bare server `web-floor`.
