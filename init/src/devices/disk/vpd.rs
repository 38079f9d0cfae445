//! The identity of a SCSI device: its vital product data (SPC-4, chapter 7.8), which the kernel
//! keeps in sysfs. The names are those of systemd's `scsi_id`.

/// A designator of page 0x83 that belongs to the device itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Designator<'a> {
    kind: u8,
    binary: bool,
    value: &'a [u8],
}

const VENDOR_SPECIFIC: u8 = 0;
const T10: u8 = 1;
const EUI64: u8 = 2;
const NAA: u8 = 3;

/// The names of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The name that identifies the device: a digit for its kind, then the identity, as in
    /// `scsi-NAME`. Empty without an identity.
    pub scsi: String,
    /// The world wide name in hexadecimal digits, as in `wwn-0xNAME`. Empty without one.
    pub wwn: String,
    /// Model and serial number of a disk with an ATA interface, as in `ata-NAME`. Empty for other
    /// disks. White space is not replaced yet.
    pub ata: String,
}

/// Returns the names in page 0x83, or in page 0x80 if the first one has none. `inquiry` is vendor
/// and model, padded to 8 and 16 characters.
#[must_use]
pub fn names(page83: &[u8], page80: &[u8], inquiry: &str) -> Names {
    let designators = designators(page83);
    let best =
        designators.iter().filter_map(|one| Some((rank(one)?, one))).min_by_key(|(rank, _)| *rank);
    let scsi = match best {
        Some((_, one)) if one.kind == VENDOR_SPECIFIC => format!("0{inquiry}{}", one.text()),
        Some((_, one)) => format!("{}{}", one.kind, one.text()),
        None => page80.get(4..).map_or(String::new(), |serial| match text(serial).as_str() {
            "" => String::new(),
            serial => format!("S{inquiry}{serial}"),
        }),
    };
    let wwn =
        designators.iter().filter(|one| one.kind == NAA && one.binary).min_by_key(|one| rank(one));
    let ata = designators.iter().find_map(ata).unwrap_or_default();
    Names { scsi, wwn: wwn.map(Designator::text).unwrap_or_default(), ata }
}

/// Returns the designators of the device, not those of its port or target.
fn designators(page: &[u8]) -> Vec<Designator<'_>> {
    let mut found = Vec::new();
    let mut rest = page.get(4..).unwrap_or_default();
    while let [codes, kind, _, length, tail @ ..] = rest {
        let Some((value, next)) = tail.split_at_checked(usize::from(*length)) else { break };
        let of_device = kind & 0x30 == 0;
        let binary = codes & 0x0F == 1;
        if of_device && !value.is_empty() {
            found.push(Designator { kind: kind & 0x0F, binary, value });
        }
        rest = next;
    }
    found
}

/// The order in which `scsi_id` prefers designators. A kind that identifies nothing has no rank.
fn rank(one: &Designator<'_>) -> Option<u8> {
    let rank = match (one.kind, one.value.first()? >> 4) {
        // Registered, extended; registered; any other.
        (NAA, 6) => 0,
        (NAA, 5) => 1,
        (NAA, _) => 2,
        (EUI64, _) => 3,
        (T10, _) => 4,
        (VENDOR_SPECIFIC, _) => 5,
        _ => return None,
    };
    Some(2 * rank + u8::from(!one.binary))
}

impl Designator<'_> {
    fn text(&self) -> String {
        if self.binary {
            self.value.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        } else {
            text(self.value)
        }
    }
}

/// Returns model and serial number in the designator that libata makes: 8 characters `ATA`, 40 of
/// the model, 20 of the serial number (SAT-3, chapter 10.3.4).
fn ata(one: &Designator<'_>) -> Option<String> {
    let (vendor, rest) = one.value.split_at_checked(8)?;
    let (model, serial) = rest.split_at_checked(40)?;
    (one.kind == T10 && vendor == b"ATA     ")
        .then(|| format!("{}_{}", text(model).trim(), text(serial).trim()))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Names, names};

    /// A page 0x83 with these designators: code set, kind with association, value.
    fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut page = vec![0, 0x83, 0, 0];
        for (codes, kind, value) in designators {
            page.extend([*codes, *kind, 0, u8::try_from(value.len()).unwrap()]);
            page.extend_from_slice(value);
        }
        page
    }

    const INQUIRY: &str = "QEMU    QEMU HARDDISK   ";

    fn check(page83: &[u8], scsi: &str, wwn: &str, ata: &str) {
        let page80 = b"\0\x80\0\x05S-1  ";
        let expected = Names { scsi: scsi.into(), wwn: wwn.into(), ata: ata.into() };
        assert_eq!(names(page83, page80, INQUIRY), expected);
    }

    #[test]
    fn the_best_designator_is_the_name() {
        let naa = [0x50, 0, 0xC5, 0, 1, 2, 3, 4];
        let all: [(u8, u8, &[u8]); 4] =
            [(2, 0, b"drive-0"), (2, 1, b"VENDOR  x"), (1, 2, &[0xAB; 8]), (1, 3, &naa)];
        check(&page(&all), "35000c50001020304", "5000c50001020304", "");
        check(&page(&all[..3]), "2abababababababab", "", "");
        check(&page(&all[..2]), "1VENDOR  x", "", "");
        check(&page(&all[..1]), "0QEMU    QEMU HARDDISK   drive-0", "", "");
        let extended = [0x60; 16];
        let both: [(u8, u8, &[u8]); 2] = [(1, 3, &naa), (1, 3, &extended)];
        check(&page(&both), &format!("3{}", "60".repeat(16)), &"60".repeat(16), "");
    }

    #[test]
    fn the_port_is_not_the_device() {
        let port: [(u8, u8, &[u8]); 1] = [(1, 0x13, &[0x50; 8])];
        check(&page(&port), "SQEMU    QEMU HARDDISK   S-1", "", "");
        check(&[], "SQEMU    QEMU HARDDISK   S-1", "", "");
        assert_eq!(names(&[], &[], INQUIRY), Names::default());
    }

    #[test]
    fn a_disk_with_an_ata_interface_has_its_model_and_serial_number() {
        let t10 = format!("ATA     {:<40}{:>20}", "QEMU HARDDISK", "QM00001");
        let one: [(u8, u8, &[u8]); 1] = [(2, 1, t10.as_bytes())];
        check(&page(&one), &format!("1{t10}"), "", "QEMU HARDDISK_QM00001");
    }

    proptest! {
        #[test]
        fn damage_is_survived(page83: Vec<u8>, page80: Vec<u8>) {
            let names = names(&page83, &page80, INQUIRY);
            prop_assert!(names.wwn.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
