//! The lease in a file on a RAM disk, kept for a restart of the container during the same boot.
//!
//! The file holds 8 bytes with the time of the request, in milliseconds of [`Time`], and then the
//! server's ACK. A lease therefore has only one format, and a stored lease is checked as strictly as a
//! server's.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kiln_base::replace::{self, Durability};

use crate::Time;
use crate::lease::Lease;
use crate::message::Message;
use crate::netlink::Link;

/// Returns the file for the lease of an interface. The interface's name cannot contain a `/`.
fn file(folder: &Path, link: &Link) -> PathBuf {
    folder.join(format!("{}.lease", link.name))
}

pub(super) fn save(folder: &Path, link: &Link, since: Time, ack: &Message) -> anyhow::Result<()> {
    let file = file(folder, link);
    replace::write(&file, &encode(since, ack), 0o644, Durability::None)
        .with_context(|| format!("cannot write {}", file.display()))
}

pub(super) fn forget(folder: &Path, link: &Link) -> anyhow::Result<()> {
    let file = file(folder, link);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the lease of an earlier run, if there is a valid one for this interface's hardware.
pub(super) fn load(folder: &Path, link: &Link, now: Time) -> Option<Lease> {
    let bytes = std::fs::read(file(folder, link)).ok()?;
    decode(&bytes, link.hardware?).filter(|lease| lease.since <= now)
}

fn encode(since: Time, ack: &Message) -> Vec<u8> {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    [&millis.to_le_bytes(), ack.build().as_slice()].concat()
}

fn decode(bytes: &[u8], hardware: [u8; 6]) -> Option<Lease> {
    let (millis, message) = bytes.split_first_chunk::<8>()?;
    let since = Duration::from_millis(u64::from_le_bytes(*millis));
    let message = Message::parse(message).ok().filter(|message| message.hardware == hardware)?;
    Lease::new(&message, since).ok()
}

#[cfg(test)]
mod tests {
    use super::{Link, decode, encode, forget, load, save};
    use crate::lease::tests::ack;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const SINCE: Duration = Duration::from_millis(1234);

    #[test]
    fn a_stored_lease_is_found_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut link = Link {
            index: 2,
            name: "eth0".into(),
            hardware: Some([2, 0, 0, 0, 0, 1]),
            flags: 0,
            software: false,
        };
        save(folder.path(), &link, SINCE, &ack(&[])).unwrap();
        let lease = load(folder.path(), &link, SINCE).unwrap();
        assert_eq!((lease.address, lease.since), (Ipv4Addr::new(10, 0, 2, 15), SINCE));
        assert_eq!(load(folder.path(), &link, Duration::ZERO), None, "stored in another boot");
        link.hardware = Some([2, 0, 0, 0, 0, 2]);
        assert_eq!(load(folder.path(), &link, SINCE), None, "another card");
        forget(folder.path(), &link).unwrap();
        forget(folder.path(), &link).unwrap();
        link.hardware = Some([2, 0, 0, 0, 0, 1]);
        assert_eq!(load(folder.path(), &link, SINCE), None);
    }

    proptest! {
        #[test]
        fn a_stored_lease_has_its_time_to_the_millisecond(millis: u64) {
            let since = Duration::from_millis(millis);
            let lease = decode(&encode(since, &ack(&[])), [2, 0, 0, 0, 0, 1]).unwrap();
            prop_assert_eq!((lease.since, lease.address), (since, ack(&[]).yours));
        }

        #[test]
        fn a_damaged_file_gives_a_lease_of_this_hardware_or_nothing(
            at in 0_usize..300,
            value: u8,
            length in 0_usize..310,
        ) {
            let mut bytes = encode(SINCE, &ack(&[]));
            bytes[at] = value;
            bytes.truncate(length);
            if let Some(lease) = decode(&bytes, [2, 0, 0, 0, 0, 1]) {
                // 8 bytes of time, 236 fixed bytes, the cookie, and the options of the lease.
                prop_assert!(length >= 8 + 236 + 4 + 3 + 6 + 6);
                prop_assert!(lease.since <= lease.renew_at && lease.renew_at <= lease.expires);
            }
        }
    }
}
