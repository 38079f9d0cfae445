//! Pods that kubelet does not start: copies kubelet's reason from its log to the console.
//!
//! A node without an API server keeps no events, and the API of its kubelet is closed, so only
//! kubelet's log has the reason.

use kiln_contract::console::Event;

use crate::kubelet::klog::{message, value};

/// The stream that has the reasons.
pub const KUBELET: &str = "kubelet";

/// Messages of kubelet 1.36, each with the keys of the pod and of the reason.
const MESSAGES: [(&str, &str, &str); 3] = [
    // pkg/kubelet/pod_workers.go
    ("Error syncing pod, skipping", "pod", "err"),
    // pkg/kubelet/config/file.go
    ("Could not process manifest file", "path", "err"),
    // pkg/kubelet/allocation/allocation_manager.go
    ("Pod admission denied", "pod", "message"),
];

/// The reason of kubelet's shutdown manager (pkg/kubelet/nodeshutdown), which refuses every pod that
/// is synced again while the node goes down. No user waits for such a pod.
const GOING_DOWN: &str = "Pod was rejected as the node is shutting down.";

/// Reasons that are remembered. kubelet repeats a reason at every attempt, and a pod has few.
const REPORTED_MAX: usize = 64;

/// Reads kubelet's log and reports each reason of each pod once per boot.
#[derive(Debug, Default)]
pub struct Unstarted {
    reported: Vec<String>,
}

impl Unstarted {
    /// Returns the event of a line, without the log file's prefix, if it is new.
    pub fn event(&mut self, line: &[u8]) -> Option<Event> {
        let (pod, reason) = parse(line).filter(|(_, reason)| reason != GOING_DOWN)?;
        let key = format!("{pod} {}", kind(&reason));
        if self.reported.len() == REPORTED_MAX || self.reported.contains(&key) {
            return None;
        }
        self.reported.push(key);
        Some(Event::NotStarted { pod, reason })
    }
}

/// Returns the pod and the reason of a line that has one of [`MESSAGES`].
fn parse(line: &[u8]) -> Option<(String, String)> {
    let (text, fields) = message(line)?;
    let (_, pod, reason) = MESSAGES.iter().find(|(known, _, _)| *known == text)?;
    Some((value(fields, pod)?, value(fields, reason)?))
}

/// Returns the part of a reason that is equal at every attempt, such as `ErrImagePull` in `failed
/// to "StartContainer" for "x" with ErrImagePull: "…"`.
fn kind(reason: &str) -> &str {
    let start = reason.find(" with ").map_or(0, |at| at + " with ".len());
    reason[start..].split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "E1130 08:12:53.123456     321 pod_workers.go:1338] ";

    fn sync(reason: &str) -> String {
        format!(
            "{HEAD}\"Error syncing pod, skipping\" err=\"{reason}\" pod=\"kube-system/hello-n\" podUID=\"u\""
        )
    }

    fn check(line: &str, expected: Option<(&str, &str)>) {
        let event = Unstarted::default().event(line.as_bytes());
        let expected = expected
            .map(|(pod, reason)| Event::NotStarted { pod: pod.into(), reason: reason.into() });
        assert_eq!(event, expected, "{line}");
    }

    #[test]
    fn a_reason_is_reported_with_its_pod() {
        check(
            &sync(
                r#"failed to \"StartContainer\" for \"hello\" with ErrImagePull: \"no \\\\ host\""#,
            ),
            Some((
                "kube-system/hello-n",
                r#"failed to "StartContainer" for "hello" with ErrImagePull: "no \\ host""#,
            )),
        );
        check(
            "E1130 1 2 file.go:186] \"Could not process manifest file\" err=\"invalid pod\" path=\"/m/x.yaml\"",
            Some(("/m/x.yaml", "invalid pod")),
        );
        check(
            "I1130 1 2 a.go:619] \"Pod admission denied\" podUID=\"u\" pod=\"a/b\" reason=\"OutOfcpu\" message=\"no CPU\" operation=\"add\"",
            Some(("a/b", "no CPU")),
        );
    }

    #[test]
    fn a_pod_that_is_refused_during_a_shutdown_is_not_reported() {
        check(
            "I1130 1 2 a.go:619] \"Pod admission denied\" podUID=\"u\" pod=\"a/b\" reason=\"NodeShutdown\" message=\"Pod was rejected as the node is shutting down.\" operation=\"add\"",
            None,
        );
    }

    #[test]
    fn other_lines_report_nothing() {
        check("I1130 1 2 a.go:1] \"Started kubelet\"", None);
        check("E1130 1 2 a.go:1] \"Error syncing pod, skipping\" err=<", None);
        check("Error syncing pod, skipping", None);
        check("", None);
    }

    #[test]
    fn a_reason_is_reported_once_and_a_new_reason_again() {
        let mut unstarted = Unstarted::default();
        let mut is_new = |reason: &str| unstarted.event(sync(reason).as_bytes()).is_some();
        assert!(is_new("failed for x with CrashLoopBackOff: back-off 10s"));
        assert!(!is_new("failed for x with CrashLoopBackOff: back-off 20s"));
        assert!(is_new("failed for x with RunContainerError: no such file"));
    }

    #[test]
    fn the_memory_for_reasons_is_bounded() {
        let mut unstarted = Unstarted::default();
        let reported =
            (0..1000).filter_map(|n| unstarted.event(sync(&format!("{n}:")).as_bytes())).count();
        assert_eq!(reported, REPORTED_MAX);
    }

    proptest! {
        #[test]
        fn any_reason_is_read_as_it_was_quoted(reason in "[a-z \"\\\\:]{0,40}") {
            let quoted = reason.replace('\\', "\\\\").replace('"', "\\\"");
            let found = parse(sync(&quoted).as_bytes()).map(|(_, reason)| reason);
            prop_assert_eq!(found, Some(reason));
        }

        #[test]
        fn a_line_without_the_keys_is_ignored(line: Vec<u8>, text in "[\\] \"=a\\\\]{0,60}") {
            prop_assert!(parse(&line).is_none());
            let line = format!("{HEAD}\"Error syncing pod, skipping\"{text}");
            prop_assert!(parse(line.as_bytes()).is_none());
        }
    }
}
