//! Conversations, byte by byte, with a simulated clock.

use super::{About, Connection, Context, DRAIN_BYTES_MAX, DRAIN_TIME, LAST_CHANCE, Limits, Want};
use crate::answer::{Answer, Serving, plain};
use crate::content::Content;
use crate::index::policy::Policy;
use crate::index::testing::from_files;
use crate::request::{Head, Method};
use crate::status::Status;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD_BYTES_MAX: usize = 300;
const SMALL: Limits =
    Limits { head: HEAD_BYTES_MAX, time: Duration::from_secs(30), idle: Duration::from_secs(5) };

static CONTENT: LazyLock<Content> = LazyLock::new(|| {
    let files = [("/x", "text"), ("/y", "other text")];
    Content::One(Arc::new(from_files(&files, &Policy::default())))
});

#[derive(Debug)]
struct Nothing;

impl About for Nothing {
    fn answer(&self, _: &Head<'_>) -> Answer {
        plain(Status::NotFound, Method::Get)
    }
}

/// Returns the number of the state that the answer under way was made from.
fn from(connection: &Connection) -> Option<u64> {
    connection.answers_from().map(|(generation, _)| generation)
}

fn with(run: impl FnOnce(&mut Connection, &mut Context<'_>)) {
    let mut context = Context {
        serving: Some(Serving { content: &CONTENT, ready: true, now: u64::MAX }),
        generation: 1,
        about: &Nothing,
        now: Instant::now(),
        date: "now",
        limits: &SMALL,
        stopping: false,
        log: false,
    };
    run(&mut Connection::new(&context), &mut context);
}

/// Writes in pieces of at most `most` bytes until the connection wants something else.
fn written(connection: &mut Connection, context: &Context<'_>, most: usize) -> String {
    let mut all = Vec::new();
    while connection.want(context) == Want::Write {
        let piece: Vec<u8> =
            connection.output().slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let count = piece.len().min(most);
        assert!(count > 0, "nothing to write");
        all.extend_from_slice(&piece[..count]);
        connection.sent(count, context);
    }
    String::from_utf8(all).unwrap()
}

/// Returns all answers to `input` when it arrives in pieces of `size` bytes.
fn talk(input: &[u8], size: usize, most: usize) -> (String, Want) {
    let mut result = (String::new(), Want::Close);
    with(|connection, context| {
        let mut rest = input;
        while let (Want::Read(room), false) = (connection.want(context), rest.is_empty()) {
            let piece = rest.split_off(..size.min(room).min(rest.len())).unwrap_or_default();
            connection.received(piece, context);
            result.0 += &written(connection, context, most);
        }
        result.1 = connection.want(context);
    });
    result
}

fn count(answers: &str) -> usize {
    answers.matches("HTTP/1.1 ").count()
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (answers, want) = talk(&[GET, &GET.replace("/x", "/y")].concat().into_bytes(), 999, 7);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(answers.find("\r\n\r\ntext").unwrap() < answers.find("\r\n\r\nother text").unwrap());
    assert_eq!(want, Want::Read(HEAD_BYTES_MAX));
}

#[test]
fn nothing_after_a_bad_request_is_answered() {
    for first in [
        "GET /x\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 54\r\nExpect: 100-continue\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let (answers, want) = talk(&[first, GET, GET].concat().into_bytes(), 999, 999);
        assert_eq!(count(&answers), 1, "{first}");
        assert!(answers.contains("\r\nConnection: close\r\n"), "{first}");
        assert_eq!(want, Want::HalfClose, "{first}");
    }
}

#[test]
fn a_body_is_skipped_and_never_mistaken_for_a_request() {
    let length =
        format!("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len());
    let chunked = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{GET}\r\n0\r\n\r\n",
        GET.len()
    );
    for first in [length, chunked] {
        for size in [1, 7, 999] {
            let input = [&first, GET].concat().into_bytes();
            let (answers, want) = talk(&input, size, 999);
            assert_eq!(
                (count(&answers), want),
                (2, Want::Read(HEAD_BYTES_MAX)),
                "{first} by {size}"
            );
        }
    }
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let (answers, _) = talk(&[post, GET].concat().into_bytes(), 999, 999);
    assert!(answers.starts_with("HTTP/1.1 405 ") && answers.ends_with("text"), "{answers}");
}

#[test]
fn an_endless_body_is_answered_once_and_cut() {
    let head = "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let input = [head, &"1\r\nx\r\n".repeat(20_000)].concat().into_bytes();
    let (answers, want) = talk(&input, 4000, 999);
    assert_eq!((count(&answers), want), (1, Want::HalfClose));
}

#[test]
fn a_connection_that_the_client_asked_to_close_is_closed_at_once() {
    let last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(talk(last.as_bytes(), 999, 999).1, Want::Close);
    assert_eq!(talk(b"GET /x HTTP/1.0\r\n\r\n", 999, 999).1, Want::Close);
}

#[test]
fn a_slow_head_is_answered_with_408_at_a_fixed_time() {
    with(|connection, context| {
        let end = context.now + SMALL.time;
        context.now += Duration::from_secs(1);
        connection.received(b"GET", context);
        context.now += Duration::from_secs(1);
        connection.received(b" /x", context);
        assert_eq!(connection.deadline(), end + Duration::from_secs(1));
        context.now = connection.deadline();
        connection.expired(context);
        assert!(written(connection, context, 999).starts_with("HTTP/1.1 408 "));
        assert_eq!(connection.want(context), Want::HalfClose);
    });
}

#[test]
fn the_time_for_a_body_is_absolute_too() {
    with(|connection, context| {
        connection.received(b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1", context);
        let end = connection.deadline();
        context.now += Duration::from_secs(1);
        connection.received(b"2", context);
        assert_eq!(connection.deadline(), end);
        connection.expired(context);
        assert!(written(connection, context, 999).starts_with("HTTP/1.1 408 "));
    });
}

#[test]
fn an_idle_connection_is_closed_silently() {
    with(|connection, context| {
        connection.received(GET.as_bytes(), context);
        written(connection, context, 999);
        assert_eq!(connection.deadline(), context.now + SMALL.idle);
        assert_eq!(connection.waiting_since(), Some(context.now));
        assert_eq!(connection.held(), 0);
        connection.expired(context);
        assert_eq!(connection.want(context), Want::Close);
    });
}

#[test]
fn a_reader_that_makes_progress_is_not_cut() {
    with(|connection, context| {
        connection.received(GET.as_bytes(), context);
        context.now += Duration::from_secs(29);
        connection.sent(1, context);
        assert_eq!(connection.deadline(), context.now + SMALL.time);
    });
}

#[test]
fn draining_is_bounded_in_time_and_size() {
    with(|connection, context| {
        connection.received(b"\n", context);
        written(connection, context, 999);
        connection.half_closed(context);
        assert_eq!(connection.deadline(), context.now + DRAIN_TIME);
        connection.discarded(DRAIN_BYTES_MAX - 1);
        assert_eq!(connection.want(context), Want::Discard);
        connection.discarded(1);
        assert_eq!(connection.want(context), Want::Close);
    });
}

#[test]
fn the_last_answer_announces_the_close() {
    with(|connection, context| {
        context.stopping = true;
        connection.received([GET, GET].concat().as_bytes(), context);
        let answers = written(connection, context, 999);
        assert_eq!(answers.matches("\r\nConnection: close\r\n").count(), 1);
    });
}

#[test]
fn at_the_end_idle_clients_are_closed_and_new_ones_get_a_chance() {
    with(|connection, context| {
        connection.stop(context);
        context.stopping = true;
        assert_eq!(connection.want(context), Want::Read(HEAD_BYTES_MAX));
        assert_eq!(connection.deadline(), context.now + LAST_CHANCE);
        context.stopping = false;
        connection.received(GET.as_bytes(), context);
        written(connection, context, 999);
        context.stopping = true;
        assert_eq!(connection.want(context), Want::Close);
    });
}

proptest! {
    #[test]
    fn the_cut_of_the_bytes_changes_nothing(
        parts in proptest::collection::vec(
            prop_oneof![
                3 => Just(GET.to_owned()),
                1 => Just("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
                1 => Just("GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".to_owned()),
                1 => "[ -~\r\n]{0,40}",
            ], 1..5),
        size in 1_usize..400,
        most in 1_usize..400,
    ) {
        let input = parts.concat().into_bytes();
        let (whole, cut) = (talk(&input, usize::MAX, usize::MAX), talk(&input, size, most));
        // Only the whole input shows whether bytes came after the last request.
        let ends = |want: Want| matches!(want, Want::Close | Want::HalfClose);
        prop_assert!(ends(whole.1) == ends(cut.1) && whole.0 == cut.0);
    }
}

#[test]
fn an_error_in_answer_to_head_has_no_body() {
    for bad in ["HEAD /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /x HTTP/1.1\r\n\r\n"] {
        let (answer, want) = talk(bad.as_bytes(), 999, 999);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(want, Want::HalfClose);
        let (of_get, _) = talk(bad.replace("HEAD", "GET").as_bytes(), 999, 999);
        assert!(of_get.starts_with(&answer) && of_get.len() > answer.len());
    }
}

#[test]
fn each_answer_of_a_pipeline_has_the_number_of_its_own_state() {
    with(|connection, context| {
        connection.received([GET, GET].concat().as_bytes(), context);
        assert_eq!(from(connection), Some(1));
        context.generation = 2;
        connection.sent(1, context);
        assert_eq!(from(connection), Some(1));
        let left = connection.output().slices.iter().map(|slice| slice.len()).sum();
        assert!(connection.sent(left, context).is_some());
        assert_eq!(from(connection), Some(2));
        written(connection, context, 100);
        assert_eq!(from(connection), None);
    });
}
