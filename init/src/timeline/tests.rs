//! The timeline's file for any boot, read by another JSON parser.

use proptest::prelude::*;
use serde_json::Value;

use super::{EVENTS_MAX, Mark, Span, Timeline};
use crate::timeline::loader::Times;

fn read(timeline: &Timeline) -> Value {
    let text = timeline.json();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn span(name: &str, start: u64, duration: u64) -> Span {
    Span { name: name.into(), start, duration }
}

#[test]
fn a_boot_is_one_line() {
    let mut timeline = Timeline {
        before_kernel: Some(6_500_000),
        loader: Times { firmware: Some(5_000_000), loader: None },
        init: 2_900_000,
        stages: vec![span("mounts", 2_901_000, 5000), span("modules", 2_906_000, 115_000)],
        ..Timeline::default()
    };
    timeline.mark(Mark { name: "kubelet ready".into(), at: 7_000_000 });
    timeline.stopped(span("sync", 9_000_000, 1));
    assert_eq!(
        timeline.json(),
        concat!(
            r#"{"version":1,"before_kernel_us":6500000,"firmware_us":5000000,"loader_us":null,"#,
            r#""kernel_us":2900000,"#,
            r#""stages":[{"name":"mounts","start_us":2901000,"duration_us":5000},"#,
            r#"{"name":"modules","start_us":2906000,"duration_us":115000}],"#,
            r#""events":[{"name":"kubelet ready","at_us":7000000}],"events_left_out":0,"#,
            r#""shutdown":[{"name":"sync","start_us":9000000,"duration_us":1}]}"#,
            "\n"
        )
    );
}

#[test]
fn a_year_of_restarts_does_not_grow_the_timeline() {
    let mut timeline = Timeline::default();
    let all = 1_000_000_u64;
    for at in 0..all {
        timeline.mark(Mark { name: "containerd started".into(), at });
        timeline.stopped(span("sync", at, 0));
    }
    let json = read(&timeline);
    let events = json["events"].as_array().unwrap();
    assert_eq!(events.len(), 2 * EVENTS_MAX);
    assert_eq!(events[0]["at_us"], 0);
    assert_eq!(events[2 * EVENTS_MAX - 1]["at_us"], all - 1);
    assert_eq!(json["events_left_out"], all - 2 * EVENTS_MAX as u64);
    assert!(timeline.json().len() < 8 * 1024);
    assert!(timeline.last.capacity() <= 2 * EVENTS_MAX);
}

proptest! {
        /// Whatever the names are, the file is valid JSON with the recorded values.
    #[test]
    fn any_timeline_is_json(
        spans in prop::collection::vec((any::<String>(), any::<u64>(), any::<u64>()), 0..5),
        marks in prop::collection::vec((any::<String>(), any::<u64>()), 0..100),
        before_kernel in any::<Option<u64>>(),
        init in any::<u64>(),
    ) {
        let stages: Vec<Span> = spans.iter().map(|(name, a, b)| span(name, *a, *b)).collect();
        let mut timeline = Timeline { before_kernel, init, stages, ..Timeline::default() };
        for (name, at) in &marks {
            timeline.mark(Mark { name: name.clone(), at: *at });
        }
        let json = read(&timeline);
        prop_assert_eq!(json["before_kernel_us"].as_u64(), before_kernel);
        prop_assert_eq!(json["kernel_us"].as_u64(), Some(init));
        for (found, (name, start, duration)) in json["stages"].as_array().unwrap().iter().zip(&spans) {
            prop_assert_eq!(found["name"].as_str(), Some(name.as_str()));
            prop_assert_eq!(found["start_us"].as_u64(), Some(*start));
            prop_assert_eq!(found["duration_us"].as_u64(), Some(*duration));
        }
        let events = json["events"].as_array().unwrap();
        let left_out = json["events_left_out"].as_u64().unwrap();
        prop_assert_eq!(events.len() as u64 + left_out, marks.len() as u64);
        for (found, (name, _)) in events.iter().zip(&marks).take(EVENTS_MAX) {
            prop_assert_eq!(found["name"].as_str(), Some(name.as_str()));
        }
    }
}
