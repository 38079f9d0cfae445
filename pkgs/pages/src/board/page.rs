//! Rows → the page.

use std::fmt::Write as _;

use crate::board::escape::html;
use crate::board::query::{Choice, Query};
use crate::board::{Health, Row};

/// The rows of one page.
pub const ROWS_MAX: usize = 100;

/// The characters of a commit.
const COMMIT_CHARS: usize = 8;

/// The numbers of all sites, whatever the query wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All sites.
    pub all: usize,
    /// Those that are not ready.
    pub not_ready: usize,
    /// Those of which nothing is known yet.
    pub unknown: usize,
}

/// The rows of the wanted page, and the number of all wanted ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The rows.
    pub rows: Vec<Row>,
    /// The number of all rows that the query wants.
    pub wanted: usize,
    /// The numbers of all sites.
    pub totals: Totals,
}

/// Chooses the rows of a page. The rows come in order, and only those of the page are kept.
#[must_use]
pub fn choose(rows: impl Iterator<Item = Row>, query: &Query) -> Part {
    let start = query.page.saturating_sub(1).saturating_mul(ROWS_MAX);
    let mut part = Part::default();
    for row in rows {
        part.totals.all += 1;
        part.totals.not_ready += usize::from(row.health == Health::NotReady);
        part.totals.unknown += usize::from(row.health == Health::Unknown);
        if query.wants(&row) {
            part.wanted += 1;
            if part.wanted > start && part.rows.len() < ROWS_MAX {
                part.rows.push(row);
            }
        }
    }
    part
}

/// Returns the page. `time` is shown as the time of the state.
#[must_use]
pub fn page(part: &Part, query: &Query, time: &str) -> String {
    let mut out = String::with_capacity(4096 + part.rows.len() * 512);
    out.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Sites</title>\n\
         <link rel=\"stylesheet\" href=\"status.css\">\n</head>\n<body>\n<header>\n<h1>Sites</h1>\n",
    );
    let Totals { all, not_ready, unknown } = part.totals;
    let ready = all - not_ready - unknown;
    let _ = writeln!(
        out,
        "<p>{all} sites: {ready} ready, {not_ready} not ready, {unknown} unknown, at \
         <time datetime=\"{time}\">{time}</time></p>\n</header>\n<main>",
        time = html(time)
    );
    form(&mut out, query);
    table(&mut out, part, query);
    navigation(&mut out, part, query);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn form(out: &mut String, query: &Query) {
    let chosen = |is_so: bool| if is_so { " selected" } else { "" };
    let _ = writeln!(
        out,
        "<form method=\"get\" role=\"search\">\n\
         <label for=\"q\">Name or address</label>\n\
         <input id=\"q\" name=\"q\" type=\"search\" value=\"{}\">\n\
         <label for=\"state\">State</label>\n\
         <select id=\"state\" name=\"state\">\n<option value=\"\"{}>all</option>\n\
         <option value=\"not-ready\"{}>not ready</option>\n</select>\n\
         <button>Show</button>\n</form>",
        html(&query.text),
        chosen(query.choice == Choice::All),
        chosen(query.choice == Choice::NotReady)
    );
}

fn table(out: &mut String, part: &Part, query: &Query) {
    if part.rows.is_empty() {
        out.push_str("<p>No site fits.</p>\n");
        return;
    }
    let first = (query.page - 1) * ROWS_MAX + 1;
    let last = first + part.rows.len() - 1;
    let _ = writeln!(
        out,
        "<table>\n<caption>Sites {first} to {last} of {}</caption>\n<thead>\n<tr>\
         <th scope=\"col\">Site</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Commit</th><th scope=\"col\">Published</th></tr>\n</thead>\n<tbody>",
        part.wanted
    );
    part.rows.iter().for_each(|row| line(out, row));
    out.push_str("</tbody>\n</table>\n");
}

/// Adds a row. `bdi` keeps the direction of a text from spreading.
fn line(out: &mut String, row: &Row) {
    let (class, sign, word) = match row.health {
        Health::Ready => ("ready", "\u{2713}", "ready"),
        Health::NotReady => ("not-ready", "\u{2717}", "not ready"),
        Health::Unknown => ("unknown", "?", "unknown"),
    };
    let _ = write!(out, "<tr><th scope=\"row\"><bdi>{}</bdi>", html(&row.site.to_string()));
    if let Some(url) = &row.url {
        let text = html(url);
        // Only the operator writes addresses; anything else is a text and no link.
        if url.starts_with("https://") || url.starts_with("http://") {
            let _ = write!(out, "<br><a href=\"{text}\" rel=\"noreferrer\"><bdi>{text}</bdi></a>");
        } else {
            let _ = write!(out, "<br><bdi>{text}</bdi>");
        }
    }
    let _ =
        write!(out, "</th><td class=\"{class}\"><span aria-hidden=\"true\">{sign}</span> {word}");
    if row.reason.to_lowercase() != word {
        let _ = write!(out, ", <bdi>{}</bdi>", html(&row.reason));
    }
    if let Some(message) = &row.message {
        let _ = write!(out, "<br><bdi>{}</bdi>", html(message));
    }
    let commit = row.commit.as_deref().map(|commit| {
        let digits = commit.strip_prefix("sha256:").unwrap_or(commit);
        digits.chars().take(COMMIT_CHARS).collect::<String>()
    });
    let commit = commit.map_or_else(|| "none".to_owned(), |text| html(&text));
    let published = row.published.as_deref().map_or_else(
        || "never".to_owned(),
        |time| format!("<time datetime=\"{time}\">{time}</time>", time = html(time)),
    );
    let _ = writeln!(out, "</td><td><code>{commit}</code></td><td>{published}</td></tr>");
}

fn navigation(out: &mut String, part: &Part, query: &Query) {
    let pages = part.wanted.div_ceil(ROWS_MAX).max(1);
    if pages == 1 && query.page == 1 {
        return;
    }
    out.push_str("<nav aria-label=\"Pages\">\n");
    let mut link = |page: usize, rel: &str, text: &str| {
        let _ = writeln!(out, "<a href=\"{}\" rel=\"{rel}\">{text}</a>", html(&query.link(page)));
    };
    if query.page > 1 {
        link((query.page - 1).min(pages), "prev", "Previous");
    }
    if query.page < pages {
        link(query.page + 1, "next", "Next");
    }
    let _ = writeln!(out, "<span>Page {} of {pages}</span>\n</nav>", query.page);
}
