//! CRC-32 as in Ethernet and GPT (reflected polynomial 0xedb88320; UEFI specification 2.10, chapter 5.3).

/// Computes the CRC-32 of `bytes` bit by bit.
///
/// PID 1 reads one partition table of 16 KiB, and the usual table of remainders would make its
/// binary larger than that saves.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_checksum_of_the_digits_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
