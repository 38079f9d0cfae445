//! The two programs of this crate measure web servers: `web-load` asks, `web-floor` answers.
