//! Errors of the API server in plain words: kube's own texts repeat their causes.

use anyhow::{Error, anyhow};
use kube::runtime::watcher;

/// Returns an error with the API server's message, or with the innermost cause.
#[must_use]
pub fn plain(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => anyhow!("{} (status {})", status.message, status.code),
        other => anyhow!("{}", innermost(other)),
    }
}

/// Returns the error of a watch.
#[must_use]
pub fn of_watch(error: &watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => plain(error),
        watcher::Error::WatchError(status) => anyhow!("{}", status.message),
        watcher::Error::NoResourceVersion => anyhow!("{error}"),
    }
}

/// Returns the text of the cause that has no cause of its own.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::plain;
    use kube::core::Status;

    #[test]
    fn a_refusal_of_the_server_is_its_own_words() {
        let status = Status::failure("nodes is forbidden", "Forbidden").with_code(403);
        let error = plain(&kube::Error::Api(status.boxed()));
        assert_eq!(format!("{error:#}"), "nodes is forbidden (status 403)");
    }

    #[test]
    fn a_failed_connection_is_its_innermost_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = plain(&kube::Error::Service(Box::new(refused)));
        assert_eq!(format!("{error:#}"), "connection refused");
    }
}
