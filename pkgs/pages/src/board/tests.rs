use super::page::{Part, ROWS_MAX, choose, page};
use super::query::{Choice, Query};
use super::{Health, POLICY, Row, STYLE};
use proptest::prelude::*;

fn row(number: usize) -> Row {
    Row {
        site: format!("team/site-{number:04}").parse().unwrap(),
        url: Some(format!("https://site-{number:04}.team.example/")),
        health: if number.is_multiple_of(10) { Health::NotReady } else { Health::Ready },
        reason: if number.is_multiple_of(10) { "NotSynced" } else { "Ready" }.to_owned(),
        message: None,
        commit: Some("c0ffee0123456789".to_owned()),
        published: Some("2026-01-01T00:00:00Z".to_owned()),
    }
}

fn part(query: &str) -> (Part, String) {
    let query = Query::new(query);
    let part = choose((0..1234).map(row), &query);
    let text = page(&part, &query, "2026-01-02T00:00:00Z");
    (part, text)
}

#[test]
fn a_thousand_sites_are_pages_and_a_filter_finds_one() {
    let (first, text) = part("");
    assert_eq!((first.rows.len(), first.wanted), (ROWS_MAX, 1234));
    assert!(text.contains("1234 sites: 1110 ready, 124 not ready, 0 unknown"));
    assert!(text.contains("Sites 1 to 100 of 1234") && text.contains("Page 1 of 13"));
    assert!(text.contains("rel=\"next\"") && !text.contains("rel=\"prev\""));
    let (last, text) = part("page=13");
    assert_eq!(last.rows.len(), 34);
    assert!(text.contains("rel=\"prev\"") && !text.contains("rel=\"next\""));
    let (found, text) = part("q=SITE-0042");
    assert_eq!(found.rows.len(), 1);
    assert!(text.contains("value=\"site-0042\"") && !text.contains("<nav"));
    let (bad, text) = part("state=not-ready&q=team");
    assert_eq!(bad.wanted, 124);
    assert!(text.contains("?q=team&amp;state=not-ready&amp;page=2"), "{text}");
    let (none, text) = part("q=%zz&page=99999999999999999999");
    assert!(none.rows.is_empty() && text.contains("No site fits."));
    assert!(part("page=999").1.contains("href=\"?q=&amp;page=13\" rel=\"prev\""));
}

#[test]
fn texts_of_strangers_are_inert() {
    let hostile = "</bdi><script>alert(1)</script>\"' onload=x \u{1b}[2J";
    let mut row = row(0);
    row.reason = hostile.to_owned();
    row.message = Some(hostile.to_owned());
    row.commit = Some("<b>\"'&".to_owned());
    row.published = Some("\"><img src=x>".to_owned());
    for url in ["javascript:alert(1)", "https://a/\"><script>", "data:text/html,x"] {
        row.url = Some(url.to_owned());
        let query = Query::new("q=%22%3E%3Cscript%3E");
        let part = Part { rows: vec![row.clone()], wanted: 1, ..Part::default() };
        let text = page(&part, &query, "<script>");
        for forbidden in ["<script", "<img", "<b>", "\u{1b}", "href=\"javascript:", "href=\"data:"]
        {
            assert!(!text.contains(forbidden), "{forbidden}: {text}");
        }
        assert!(text.contains("value=\"&quot;&gt;&lt;script&gt;\""), "{text}");
    }
}

#[test]
fn the_page_runs_nothing_and_loads_only_its_style() {
    let (_, text) = part("");
    for forbidden in ["style=", " on", "src=", "http-equiv"] {
        let tags = text.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag);
        assert!(tags.into_iter().all(|tag| !tag.contains(forbidden)), "{forbidden}");
    }
    assert!(POLICY.starts_with("default-src 'none'; style-src 'self'; "));
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    for needed in ["lang=\"en\"", "<caption>", "scope=\"row\"", "name=\"viewport\"", "<main>"] {
        assert!(text.contains(needed), "{needed}");
    }
    assert!(STYLE.contains("prefers-color-scheme: dark"));
}

#[test]
fn a_query_is_read_as_forms_write_it() {
    let query = Query::new("q=a+b%2Fc%C3%A9&state=not-ready&page=2&x");
    assert_eq!((query.text.as_str(), query.choice, query.page), ("a b/cé", Choice::NotReady, 2));
    assert_eq!(query.link(3), "?q=a%20b%2Fc%C3%A9&state=not-ready&page=3");
    assert_eq!(Query::new("page=0").page, 1);
}

proptest! {
    #[test]
    fn a_link_keeps_the_filter(text in "[^A-Z]{0,40}", number in 1_usize..50) {
        let query = Query { text: text.trim().to_lowercase(), choice: Choice::All, page: number };
        prop_assert_eq!(Query::new(&query.link(number)[1..]), query);
    }

    #[test]
    fn no_query_panics(text in ".{0,80}") {
        let query = Query::new(&text);
        let part = choose((0..3).map(row), &query);
        prop_assert!(page(&part, &query, "").ends_with("</html>\n"));
    }

    #[test]
    fn no_text_opens_a_tag(text in ".{0,60}") {
        let safe = super::escape::html(&text);
        prop_assert!(!safe.contains(['<', '>', '"', '\'']));
    }
}
