//! A folder → a pack.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use kiln_base::replace::{self, Durability};
use kiln_daemon::exit::Exit;
use sha2::{Digest as _, Sha256};
use static_server::index::assemble::{Encoded, Item, assemble};
use static_server::index::{Body, Coding};
use static_server::media::media_type;
use static_server::pack::compress::{self, Effort};
use static_server::pack::layout::Blob;
use static_server::pack::write::{order, plan};

use crate::gather::{Found, Gathered, gather};
use crate::options::Options;

type Digest = [u8; 32];

/// Bodies by their digest, each once.
#[derive(Debug, Default)]
struct Bodies(HashMap<Digest, Vec<u8>>);

/// The digests of the coded forms of a body.
type Forms = BTreeMap<Coding, Digest>;

/// Makes a pack and prints a summary.
pub fn make(options: &Options) -> anyhow::Result<()> {
    let gathered = gather(&options.folder).context(Exit::Config)?;
    report(&gathered, options.strict).context(Exit::Config)?;
    let Gathered { files, rules, .. } = gathered;
    let mut bodies = Bodies::default();
    let plain: BTreeMap<&Vec<u8>, Digest> =
        files.iter().map(|(path, found)| (path, bodies.add(&found.bytes))).collect();
    let coded = coded(&files, &plain, &mut bodies, options.threads)?;
    let blobs = bodies.blobs();
    let items = items(&files, &plain, &coded, &blobs, options.policy.last_modified);
    let index = assemble(&items, Vec::new(), rules, &options.policy)?;
    let laid = plan(&index, &blobs).context("cannot lay out the pack")?;
    write(&options.out, &laid.head, &laid.blobs, &bodies)
        .with_context(|| format!("cannot write {}", options.out.display()))?;
    println!(
        "{}: {} files, {} bodies, {} bytes",
        options.out.display(),
        files.len(),
        blobs.len(),
        laid.len
    );
    Ok(())
}

/// Returns every file with its forms. The offset of a body is provisionally the number of its blob.
fn items(
    files: &BTreeMap<Vec<u8>, Found>,
    plain: &BTreeMap<&Vec<u8>, Digest>,
    coded: &BTreeMap<&Vec<u8>, Forms>,
    blobs: &[Blob],
    dated: bool,
) -> Vec<Item> {
    let numbers: HashMap<Digest, (u64, u64)> =
        (0..).zip(blobs).map(|(number, blob)| (blob.sha256, (number, blob.len))).collect();
    let encoded = |coding: Coding, digest: &Digest| {
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest[..16]);
        let (start, len) = numbers[digest];
        Encoded { coding, body: Body { store: 0, start, len }, tag }
    };
    let item = |(path, found): (&Vec<u8>, &Found)| {
        let forms = coded.get(path).into_iter().flatten();
        let forms = forms.map(|(coding, digest)| encoded(*coding, digest));
        let plain = encoded(Coding::Identity, &plain[path]);
        let modified = found.modified.filter(|_| dated);
        Item {
            path: path.clone(),
            variants: std::iter::once(plain).chain(forms).collect(),
            modified,
        }
    };
    files.iter().map(item).collect()
}

/// Reports the names that have no content.
fn report(gathered: &Gathered, strict: bool) -> anyhow::Result<()> {
    for path in &gathered.left_out {
        let path = String::from_utf8_lossy(path);
        if strict {
            bail!("{path} is a link that leaves the folder, dangles or loops, or not a file");
        }
        tracing::warn!(
            "{path} is a link that leaves the folder, dangles or loops, or not a file; left out"
        );
    }
    Ok(())
}

/// Returns the coded forms of every file that has any: the coded file next to it, if that file
/// unpacks to the same bytes, otherwise a form made here.
fn coded<'a>(
    files: &'a BTreeMap<Vec<u8>, Found>,
    plain: &BTreeMap<&Vec<u8>, Digest>,
    bodies: &mut Bodies,
    threads: usize,
) -> anyhow::Result<BTreeMap<&'a Vec<u8>, Forms>> {
    let worth = |path: &Vec<u8>| compress::is_worth_trying(media_type(path));
    let todo: BTreeMap<Digest, &[u8]> = files
        .iter()
        .filter(|(path, _)| worth(path))
        .map(|(path, found)| (plain[path], &found.bytes[..]))
        .collect();
    let made =
        compress::all(&todo.values().copied().collect::<Vec<_>>(), Effort::HIGHEST, threads)?;
    let mut own: HashMap<Digest, Forms> = HashMap::new();
    for (digest, forms) in todo.keys().zip(made) {
        let forms = forms.iter().map(|(coding, bytes)| (*coding, bodies.add(bytes))).collect();
        own.insert(*digest, forms);
    }
    let mut all = BTreeMap::new();
    for (path, found) in files {
        let mut forms = if worth(path) { own[&plain[path]].clone() } else { Forms::new() };
        take_sidecars(files, path, found, plain, &mut forms);
        all.insert(path, forms);
    }
    bodies.keep(plain.values().chain(all.values().flat_map(BTreeMap::values)));
    Ok(all)
}

/// Takes coded files next to a file, such as `app.js.br`, instead of forms made here.
///
/// Coded files are unpacked and compared, so that a pack does not depend on which file is older.
fn take_sidecars(
    files: &BTreeMap<Vec<u8>, Found>,
    path: &[u8],
    found: &Found,
    plain: &BTreeMap<&Vec<u8>, Digest>,
    forms: &mut Forms,
) {
    for coding in Coding::ALL.into_iter().filter(|coding| *coding != Coding::Identity) {
        let name = [path, coding.extension().as_bytes()].concat();
        let Some(sidecar) = files.get(&name) else { continue };
        if !compress::is_coded_form(coding, &sidecar.bytes, &found.bytes) {
            tracing::warn!(
                "{} is not a form of {}",
                String::from_utf8_lossy(&name),
                String::from_utf8_lossy(path)
            );
        } else if compress::helps(sidecar.bytes.len(), found.bytes.len()) {
            forms.insert(coding, plain[&name]);
        }
    }
}

impl Bodies {
    fn add(&mut self, bytes: &[u8]) -> Digest {
        let digest = Sha256::digest(bytes).into();
        self.0.entry(digest).or_insert_with(|| bytes.to_vec());
        digest
    }

    /// Drops bodies that nothing refers to.
    fn keep<'a>(&mut self, wanted: impl Iterator<Item = &'a Digest>) {
        let wanted: std::collections::HashSet<&Digest> = wanted.collect();
        self.0.retain(|digest, _| wanted.contains(digest));
    }

    /// Returns all bodies in the order of a pack, without their offsets.
    fn blobs(&self) -> Vec<Blob> {
        let blob = |(digest, bytes): (&Digest, &Vec<u8>)| Blob {
            start: 0,
            len: bytes.len() as u64,
            sha256: *digest,
        };
        let mut blobs: Vec<Blob> = self.0.iter().map(blob).collect();
        blobs.sort_by_key(order);
        blobs
    }
}

/// Replaces the target, so that a server that has the old pack open keeps it.
fn write(out: &Path, head: &[u8], blobs: &[Blob], bodies: &Bodies) -> anyhow::Result<()> {
    replace::write_with(out, 0o644, Durability::File, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(head)?;
        let mut at = head.len() as u64;
        for blob in blobs {
            file.write_all(&vec![0; usize::try_from(blob.start - at)?])?;
            file.write_all(&bodies.0[&blob.sha256])?;
            at = blob.start + blob.len;
        }
        Ok(file.flush()?)
    })
}

#[cfg(test)]
mod tests {
    use super::make;
    use crate::list::list;
    use crate::options::Options;
    use static_server::index::policy::Policy;
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    const TEXT: &str = "body { margin: 0; padding: 0; color: black; background: white }\n";

    fn options(dir: &Path, threads: usize) -> Options {
        Options {
            folder: dir.join("site"),
            out: dir.join(format!("{threads}.pack")),
            policy: Policy::default(),
            strict: false,
            threads,
        }
    }

    fn site(dir: &Path, names: &[&str], time: u64) {
        for name in names {
            let path = dir.join("site").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, TEXT.repeat(name.len() * 10)).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(time);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }

    fn packed(names: &[&str], time: u64, threads: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        site(dir.path(), names, time);
        let options = options(dir.path(), threads);
        make(&options).unwrap();
        fs::read(&options.out).unwrap()
    }

    #[test]
    fn order_times_and_threads_do_not_change_a_pack() {
        let pack = packed(&["a.css", "b/c.js", "index.html"], 1, 1);
        assert!(pack == packed(&["index.html", "b/c.js", "a.css"], 2_000_000_000, 4));
        assert!(pack != packed(&["a.css", "b/d.js", "index.html"], 1, 1));
    }

    #[test]
    fn a_list_has_every_path_and_no_hidden_name() {
        let dir = tempfile::tempdir().unwrap();
        site(
            dir.path(),
            &["index.html", "a.3f9a1c2b.css", ".secret", ".git/x", ".well-known/y"],
            1,
        );
        let options = options(dir.path(), 1);
        make(&options).unwrap();
        let list = list(&options.out).unwrap();
        let paths: Vec<&str> =
            list.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(paths, ["/", "/.well-known/y", "/a.3f9a1c2b.css", "/index.html"]);
        let line = list.lines().find(|line| line.contains(".css")).unwrap();
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!((cells[1], cells[2]), ("text/css; charset=utf-8", "8960"));
        assert!(cells[3].parse::<u32>().unwrap() < 200, "{line}");
        assert_eq!(cells[4..6], ["-", "-"], "they save no packet");
        assert!(cells[6].contains("immutable"));
    }

    #[test]
    fn a_sidecar_is_used_only_if_it_unpacks_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        site(dir.path(), &["a.css"], 1);
        let coded = super::compress::all(&[b"another text"], super::Effort::HIGHEST, 1).unwrap();
        assert!(coded[0].is_empty());
        fs::write(dir.path().join("site/a.css.gz"), "no gzip at all").unwrap();
        let options = options(dir.path(), 1);
        make(&options).unwrap();
        let line = list(&options.out).unwrap();
        let line = line.lines().find(|line| line.starts_with("/a.css\t")).unwrap().to_owned();
        assert!(!line.contains("\t14\t"), "{line}");
    }

    #[test]
    fn a_link_out_of_the_folder_fails_only_with_strict() {
        let dir = tempfile::tempdir().unwrap();
        site(dir.path(), &["a.css"], 1);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("site/out")).unwrap();
        make(&options(dir.path(), 1)).unwrap();
        let error = make(&Options { strict: true, ..options(dir.path(), 1) }).unwrap_err();
        assert!(format!("{error:#}").contains("/out is a link that leaves the folder"));
    }
}
