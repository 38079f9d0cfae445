//! The status page in a real browser, with JavaScript switched off.
//!
//! `cargo xtask test` names the browser in `KILN_PAGES_BROWSER`: Chromium's headless shell from a locked
//! package.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod browser;
mod site;

use std::collections::BTreeSet;

use browser::{Browser, Look};

const PHONE: Look = Look { width: 360, height: 740, dark: false };
const DESK: Look = Look { width: 1280, height: 900, dark: false };

#[test]
fn a_person_sees_every_site_and_no_text_acts() {
    let address = site::start();
    let mut browser = Browser::start();
    for look in [PHONE, DESK, Look { dark: true, ..PHONE }] {
        let page = browser.open(&format!("http://{address}/status"), look);
        assert!(page.width <= look.width, "{} px of content at {} px", page.width, look.width);
        assert_eq!(page.title, "Sites");
        let rows: BTreeSet<&str> =
            page.names("rowheader").filter_map(|name| name.split(' ').next()).collect();
        assert_eq!(rows.len(), 100, "{rows:?}");
        assert!(rows.contains("team/site-0001"), "{rows:?}");
        assert!(page.names("table").any(|name| name.contains("Sites 1 to 100 of 1234")));
        assert!(page.names("heading").any(|name| name == "Sites"));
        for header in ["Site", "State", "Commit", "Published"] {
            assert!(page.names("columnheader").any(|name| name == header), "{header}");
        }
        // The hostile text is there as a text, and nothing of it has become an element.
        let text = page.text();
        assert!(text.contains("<script>document.title='changed'</script>"), "{text}");
        assert!(text.contains("<img src=x onerror=alert(1)>"), "{text}");
        assert_eq!(page.names("image").count(), 0);
        // The state is in words, not only in a colour.
        assert!(text.contains("not ready") && text.contains("NotSynced"), "{text}");
        assert!(page.picture > 5_000, "{} bytes of a picture", page.picture);
        assert!(page.is_dark == look.dark, "the background follows the preference");
    }
    let found = browser.open(&format!("http://{address}/status?q=site-0042"), PHONE);
    assert_eq!(found.names("rowheader").count(), 1);
    let none = browser.open(&format!("http://{address}/status?q=nothing"), PHONE);
    assert!(none.text().contains("No site fits."));
    assert_eq!(site::paths(), BTreeSet::from(["/status".to_owned(), "/status.css".to_owned()]));
}

/// The policy holds also where JavaScript is on.
#[test]
fn the_policy_stops_a_script_that_is_in_the_page() {
    let address = site::start();
    let mut browser = Browser::start();
    browser.allow_scripts();
    let page = browser.open(&format!("http://{address}/broken"), DESK);
    assert_eq!(page.title, "Sites", "the script in the page has not run");
}
