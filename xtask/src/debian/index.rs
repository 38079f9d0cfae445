//! The output and files of apt as values: lists of addresses, package stanzas, dates of releases.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kiln_base::calendar::{Civil, Precision};

use crate::digest::Digest;
use crate::lock::Snapshot;

/// The seconds after which the state of an archive's release file is certainly in a snapshot.
///
/// Snapshots are taken four times a day, so the one at a release file's own date may lack the
/// newest files. Files that a newer version replaces stay in the pool for 36 hours
/// (`StayOfExecution` in the archive's configuration), so twelve hours later everything is still
/// there.
const SNAPSHOT_DELAY: i64 = 12 * 3600;

/// A binary package in a `Packages` index (`deb-src-control(5)` fields, repository format).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    pub(super) name: String,
    pub(super) arch: String,
    pub(super) version: String,
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) depends: String,
}

/// One line of `--print-uris`: `'URL' FILE SIZE HASH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    pub(super) url: String,
    pub(super) size: u64,
}

/// Parses the output of `--print-uris`. Its hash can be a weak one and is not used.
pub(super) fn parse_uris(text: &str) -> Result<Vec<Uri>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            parse_uri(line)
                .with_context(|| format!("apt-get printed `{line}`, which is not an address"))
        })
        .collect()
}

fn parse_uri(line: &str) -> Option<Uri> {
    let (url, rest) = line.strip_prefix('\'')?.split_once('\'')?;
    let size = rest.split_whitespace().nth(1)?.parse().ok()?;
    Some(Uri { url: unescaped(url)?, size })
}

/// Turns `%2b` into `+`; apt escapes versions in addresses.
fn unescaped(url: &str) -> Option<String> {
    let mut parts = url.split('%');
    let mut plain = parts.next()?.as_bytes().to_vec();
    for part in parts {
        plain.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        plain.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(plain).ok()
}

/// Returns the package's name in an address of the pool: `…/name_version_arch.deb`.
pub(super) fn name_in(url: &str) -> Option<&str> {
    url.rsplit('/').next()?.split_once('_').map(|(name, _)| name)
}

/// Parses stanzas as `apt-cache show` prints them.
pub(super) fn parse_stanzas(text: &str) -> Result<Vec<Stanza>> {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.map(parse_stanza).collect()
}

fn parse_stanza(paragraph: &str) -> Result<Stanza> {
    let unfolded = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
    let fields: BTreeMap<&str, &str> = unfolded
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    let field = |key: &str| {
        let name = fields.get("Package").copied().unwrap_or("?");
        fields
            .get(key)
            .copied()
            .with_context(|| format!("the index has no {key} for package `{name}`"))
    };
    Ok(Stanza {
        name: field("Package")?.to_owned(),
        arch: field("Architecture")?.to_owned(),
        version: field("Version")?.to_owned(),
        path: field("Filename")?.to_owned(),
        size: field("Size")?.parse().context("the index has a package with a bad Size")?,
        sha256: field("SHA256")?.parse()?,
        depends: fields.get("Depends").copied().unwrap_or_default().to_owned(),
    })
}

impl Stanza {
    /// Returns the real package of a name such as `linux-image-cloud-amd64`, which has no files and
    /// depends on a package with the version in its name.
    pub(super) fn stands_for(&self) -> Option<&str> {
        let mut kernels =
            self.depends.split(',').map(str::trim).filter(|part| part.starts_with("linux-image-"));
        let first = kernels.next().filter(|_| self.name.starts_with("linux-image-"))?;
        first.split([' ', '(']).next().filter(|name| kernels.next().is_none() && *name != self.name)
    }
}

/// Returns the moment to request from an archive of snapshots, given the release files that were
/// used.
pub(super) fn snapshot(releases: &[String]) -> Result<Snapshot> {
    let dates =
        releases.iter().map(|text| release_date(text).context("a release file has no valid date"));
    let latest =
        dates.collect::<Result<Vec<_>>>()?.into_iter().max().context("apt kept no release file")?;
    let text = Civil::from_seconds(latest + SNAPSHOT_DELAY).rfc3339(Precision::Seconds).to_string();
    text.replace(['-', ':'], "").parse()
}

/// Parses `Date: Sat, 12 Sep 2026 07:55:41 UTC` into seconds since 1970.
fn release_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let line = text.lines().find_map(|line| line.strip_prefix("Date:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words[..] else { return None };
    let number = |text: &str, least: i64, most: i64| {
        text.parse().ok().filter(|n| (least..=most).contains(n))
    };
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let day = Civil::midnight(number(year, 1970, 9999)?, month, number(day, 1, 31)?);
    let mut clock = time.splitn(3, ':');
    let (hour, minute) = (number(clock.next()?, 0, 23)?, number(clock.next()?, 0, 59)?);
    Some(day.seconds()? + hour * 3600 + minute * 60 + number(clock.next()?, 0, 60)?)
}

/// Returns the settings of the host's apt for reaching servers: proxies, certificates, timeouts.
pub(super) fn carried(dump: &str) -> Result<String> {
    let wanted =
        |line: &&str| line.starts_with("Acquire::http::") || line.starts_with("Acquire::https::");
    let mut kept = String::new();
    for line in dump.lines().filter(wanted) {
        ensure!(line.ends_with("\";"), "apt-config printed `{line}`, which is not a setting");
        kept.push_str(line);
        kept.push('\n');
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URIS: &str = "\
'http://m.test/debian/pool/main/g/glibc/libc6_2.41-12%2bdeb13u4_amd64.deb' libc6_2.41-12+deb13u4_amd64.deb 2846580 MD5Sum:00
'http://s.test/pool/updates/main/l/linux/linux-image_6.12%7e1-1_amd64.deb' x 1508 SHA256:c3\n";

    const STANZAS: &str = "\
Package: linux-image-cloud-amd64
Version: 6.12.117-1
Architecture: amd64
Depends: linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)
Filename: pool/updates/main/l/linux-signed-amd64/linux-image-cloud-amd64_6.12.117-1_amd64.deb
Size: 1508
SHA256: c3cb081e80d7afe579497153e06401c8801587c42fb321c5f884bc7913318558
Description: kernel
 Depends: nothing
 .
 more

Package: zlib1g
Version: 1:1.3
Architecture: amd64
Filename: pool/main/z/zlib/zlib1g_1.3_amd64.deb
Size: 7
SHA256: c3cb081e80d7afe579497153e06401c8801587c42fb321c5f884bc7913318558
";

    #[test]
    fn addresses_come_unescaped_with_their_sizes() {
        let uris = parse_uris(URIS).unwrap();
        assert_eq!(
            uris[0].url,
            "http://m.test/debian/pool/main/g/glibc/libc6_2.41-12+deb13u4_amd64.deb"
        );
        assert_eq!((uris[0].size, name_in(&uris[0].url)), (2_846_580, Some("libc6")));
        assert!(uris[1].url.ends_with("linux-image_6.12~1-1_amd64.deb"));
        assert!(
            parse_uris("E: no such package")
                .unwrap_err()
                .to_string()
                .contains("E: no such package")
        );
    }

    #[test]
    fn a_kernel_without_files_names_the_one_with_files() {
        let stanzas = parse_stanzas(STANZAS).unwrap();
        assert_eq!(stanzas[0].stands_for(), Some("linux-image-6.12.117+deb13-cloud-amd64"));
        assert_eq!((stanzas[1].stands_for(), stanzas[1].version.as_str()), (None, "1:1.3"));
        let real =
            Stanza { depends: "kmod, linux-base (>= 4.3~)".to_owned(), ..stanzas[0].clone() };
        assert_eq!(real.stands_for(), None);
    }

    #[test]
    fn a_stanza_without_a_sha256_is_refused() {
        let error = parse_stanzas(&STANZAS.replace("SHA256", "MD5sum")).unwrap_err().to_string();
        assert_eq!(error, "the index has no SHA256 for package `linux-image-cloud-amd64`");
    }

    #[test]
    fn the_snapshot_is_half_a_day_after_the_latest_release() {
        let release = |date: &str| format!("Origin: Debian\nDate: {date}\nSHA256:\n Date: no\n");
        let releases =
            [release("Sat, 12 Sep 2026 07:55:41 UTC"), release("Fri, 20 Nov 2026 20:12:42 UTC")];
        assert_eq!(snapshot(&releases).unwrap().as_str(), "20261121T081242Z");
        for bad in
            ["", "Fri, 20 Nov 2026", "Fri, 20 Nov 2026 20:12:42 CET", "x, 40 Foo 1 1:1:1 UTC"]
        {
            assert!(snapshot(&[release(bad)]).is_err(), "{bad}");
        }
        assert!(snapshot(&[]).is_err());
    }

    #[test]
    fn only_settings_about_servers_are_carried_over() {
        let dump = "APT::Update::Post-Invoke:: \"evil\";\nAcquire::http::Proxy \"http://p.test:3142\";\nAcquire::https::CaInfo \"/etc/ca.pem\";\nDir \"/\";\n";
        let kept = "Acquire::http::Proxy \"http://p.test:3142\";\nAcquire::https::CaInfo \"/etc/ca.pem\";\n";
        assert_eq!(carried(dump).unwrap(), kept);
    }

    proptest! {
        #[test]
        fn any_lines_give_an_address_each_or_are_refused(text in "('?[a%]{0,4}'? ?x? ?[0-9]{0,3}\n){0,4}|.*") {
            let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
            if let Ok(uris) = parse_uris(&text) {
                prop_assert_eq!(uris.len(), lines);
            }
        }

        #[test]
        fn any_stanza_has_a_package_and_a_digest_or_is_refused(text in "((Package|SHA256|Size|Filename|Version|Depends): ?[a-z0-9]{0,64}\n){0,7}|.*") {
            if let Ok(stanzas) = parse_stanzas(&text) {
                let whole = |stanza: &Stanza| !stanza.name.is_empty() && text.contains(&stanza.name);
                prop_assert!(stanzas.iter().all(whole), "{:?}", stanzas);
            }
        }

        #[test]
        fn a_date_that_is_read_is_between_1970_and_9999(text: String, day in 0u8..40, hour in 0u8..30) {
            let date = format!("Date: Sat, {day} Sep 2026 {hour}:00:00 UTC");
            let (least, most) = (0, 253_402_300_800);
            for text in [format!("Date: {text}"), text, date] {
                let date = release_date(&text);
                prop_assert!(date.is_none_or(|date| (least..most).contains(&date)), "{:?}", date);
            }
        }

        #[test]
        fn settings_are_lines_of_the_dump_about_servers(text in "((Acquire::https?::|Dir )[a-z ]{0,4}(\";)?\n){0,5}|.*") {
            if let Ok(kept) = carried(&text) {
                let from_dump = |line: &str| text.lines().any(|other| other == line);
                prop_assert!(kept.lines().all(|line| line.starts_with("Acquire::http") && from_dump(line)));
            }
        }

        #[test]
        fn unescaping_keeps_plain_text_and_restores_escaped_text(text in "[a-c+~é]{0,12}") {
            let escaped: Vec<String> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(unescaped(&text), Some(text.clone()));
            prop_assert_eq!(unescaped(&escaped.concat()), Some(text));
        }
    }
}
