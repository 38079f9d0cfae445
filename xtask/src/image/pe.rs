//! PE32+ files: their section table, read and appended to.
//!
//! Format: Microsoft's "PE Format" page. It covers what a UKI needs: 64-bit images without a symbol
//! table, such as systemd's stub and the kernel. Reading accepts any bytes and never panics.

use anyhow::{Context, Result, bail, ensure};

/// The section's data is code, or data with content; it may be read.
pub const CODE: u32 = 0x20;
/// See [`CODE`].
pub const INITIALIZED_DATA: u32 = 0x40;
/// See [`CODE`].
pub const READABLE: u32 = 0x4000_0000;

/// The image works with pages that are never both writable and executable (`NX_COMPAT`).
const NX_COMPAT: u16 = 0x100;

const MAGIC_PE32_PLUS: u16 = 0x20b;
const COFF_SIZE: usize = 20;
const SECTION_SIZE: usize = 40;
const NAME_SIZE: usize = 8;

/// The offset in the DOS header of the pointer to the PE header.
const DOS_POINTER: usize = 0x3c;

/// Offsets in the COFF header.
mod coff {
    pub(super) const SECTION_COUNT: usize = 2;
    pub(super) const SYMBOL_TABLE: usize = 8;
    pub(super) const OPTIONAL_SIZE: usize = 16;
}

/// Offsets in the optional header of a PE32+ image.
mod optional {
    pub(super) const SIZE_OF_INITIALIZED_DATA: usize = 8;
    pub(super) const SECTION_ALIGNMENT: usize = 32;
    pub(super) const FILE_ALIGNMENT: usize = 36;
    pub(super) const SIZE_OF_IMAGE: usize = 56;
    pub(super) const SIZE_OF_HEADERS: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
    pub(super) const DLL_CHARACTERISTICS: usize = 70;
    pub(super) const DIRECTORY_COUNT: usize = 108;
    /// The fifth data directory, which locates the signatures.
    pub(super) const SECURITY_DIRECTORY: usize = 112 + 4 * 8;
}

/// An entry of the section table. All numbers are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// At most eight bytes.
    pub name: String,
    /// Length in memory; for a UKI's own sections the exact length of the content.
    pub virtual_size: u32,
    /// The start in memory, from the image's base.
    pub virtual_address: u32,
    /// Length in the file, padding included.
    pub raw_size: u32,
    /// The start in the file.
    pub raw_offset: u32,
    /// [`CODE`] and the like.
    pub characteristics: u32,
}

/// The contents of the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    coff: usize,
    optional: usize,
    table: usize,
    section_alignment: u32,
    file_alignment: u32,
    header_space: u32,
    nx_compatible: bool,
    signed: bool,
    symbols: bool,
    /// The section table, in its order.
    pub sections: Vec<Section>,
}

/// An image in memory to which sections are added. The data of added sections comes after
/// [`Image::bytes`].
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Vec<u8>,
    headers: Headers,
    /// The length of the file with the data of all added sections.
    length: u64,
}

impl Section {
    /// Returns the content in `file`, without padding, and cut off at the end of the file.
    pub fn data<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let start = self.raw_offset as usize;
        let end = start.saturating_add(self.raw_size.min(self.virtual_size) as usize);
        file.get(start..end.min(file.len())).unwrap_or_default()
    }

    fn to_bytes(&self) -> [u8; SECTION_SIZE] {
        let mut bytes = [0; SECTION_SIZE];
        bytes[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let fields = [self.virtual_size, self.virtual_address, self.raw_size, self.raw_offset];
        for (at, field) in fields.iter().enumerate() {
            put_u32(&mut bytes, NAME_SIZE + 4 * at, *field);
        }
        put_u32(&mut bytes, SECTION_SIZE - 4, self.characteristics);
        bytes
    }
}

impl Headers {
    /// Reads the headers at the start of `file`; the rest may be missing.
    pub fn parse(file: &[u8]) -> Result<Self> {
        ensure!(file.starts_with(b"MZ"), "this is not a PE file: it does not start with `MZ`");
        let signature = u32_at(file, DOS_POINTER)? as usize;
        ensure!(
            bytes_at(file, signature)? == *b"PE\0\0",
            "this is not a PE file: the signature is missing"
        );
        let coff = signature + 4;
        let optional = coff + COFF_SIZE;
        ensure!(
            u16_at(file, optional)? == MAGIC_PE32_PLUS,
            "this PE file is not for a 64-bit machine"
        );
        let table = optional + usize::from(u16_at(file, coff + coff::OPTIONAL_SIZE)?);
        let headers = Self {
            coff,
            optional,
            table,
            section_alignment: alignment(file, optional + optional::SECTION_ALIGNMENT)?,
            file_alignment: alignment(file, optional + optional::FILE_ALIGNMENT)?,
            header_space: u32_at(file, optional + optional::SIZE_OF_HEADERS)?,
            nx_compatible: u16_at(file, optional + optional::DLL_CHARACTERISTICS)? & NX_COMPAT != 0,
            signed: is_signed(file, optional)?,
            symbols: u32_at(file, coff + coff::SYMBOL_TABLE)? != 0,
            sections: Vec::new(),
        };
        let count = usize::from(u16_at(file, coff + coff::SECTION_COUNT)?);
        let sections = (0..count).map(|index| section_at(file, table + index * SECTION_SIZE));
        Ok(Self { sections: sections.collect::<Result<_>>()?, ..headers })
    }

    /// Returns the section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// True if the image can be loaded with pages that are never both writable and executable.
    pub fn is_nx_compatible(&self) -> bool {
        self.nx_compatible
    }
}

impl Image {
    /// Takes a file to which sections can be added; refuses a signed, cut off or unaligned one.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let headers = Headers::parse(&bytes)?;
        ensure!(!headers.signed, "it is signed: adding sections would break the signature");
        ensure!(!headers.symbols, "it has a symbol table, which an image should not have");
        ensure!(!headers.sections.is_empty(), "it has no sections");
        ensure!(headers.header_space as usize <= bytes.len(), "it is cut off in its headers");
        for section in &headers.sections {
            let aligned = |value: u32| value.is_multiple_of(headers.file_alignment);
            let end = u64::from(section.raw_offset) + u64::from(section.raw_size);
            ensure!(
                aligned(section.raw_offset)
                    && aligned(section.raw_size)
                    && end <= bytes.len() as u64,
                "its section {} is cut off or not aligned",
                section.name
            );
        }
        let mut image = Self { length: 0, bytes, headers };
        image.put(optional::CHECKSUM, 0);
        image.length =
            (image.bytes.len() as u64).next_multiple_of(image.headers.file_alignment.into());
        image.bytes.resize(usize::try_from(image.length)?, 0);
        Ok(image)
    }

    /// Returns the file up to the data of the first added section.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the current headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the bytes to which the data of every added section is padded.
    pub fn file_alignment(&self) -> u32 {
        self.headers.file_alignment
    }

    /// Replaces the content of an existing section; the new content must fit.
    pub fn replace(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let sections = &mut self.headers.sections;
        let index = sections.iter().position(|section| section.name == name);
        let index = index.with_context(|| format!("it has no section {name}"))?;
        let section = &mut sections[index];
        ensure!(
            content.len() <= section.raw_size as usize,
            "its section {name} has room for {} bytes, not for {}",
            section.raw_size,
            content.len()
        );
        section.virtual_size = u32::try_from(content.len())?;
        let (start, length) = (section.raw_offset as usize, section.raw_size as usize);
        self.bytes[start..start + length].fill(0);
        self.bytes[start..start + content.len()].copy_from_slice(content);
        self.write_section(index);
        Ok(())
    }

    /// Adds a section's header; its `size` bytes of content and the padding come after those of the
    /// previous section.
    pub fn append(&mut self, name: &str, size: u64, characteristics: u32) -> Result<()> {
        ensure!(name.len() <= NAME_SIZE, "the name {name} has more than {NAME_SIZE} bytes");
        let index = self.headers.sections.len();
        let header_end = self.headers.table + (index + 1) * SECTION_SIZE;
        ensure!(
            header_end <= self.headers.header_space as usize,
            "its header has no room for one more section, {name}"
        );
        let Some(last) = self.headers.sections.last() else { bail!("it has no sections") };
        let end = u64::from(last.virtual_address) + u64::from(last.virtual_size);
        let raw_size = size.next_multiple_of(self.headers.file_alignment.into());
        let too_big =
            || format!("with {name} the file is larger than the 4 GiB that PE can address");
        let section = Section {
            name: name.to_owned(),
            virtual_size: u32::try_from(size).with_context(too_big)?,
            virtual_address: self.align_in_memory(end).with_context(too_big)?,
            raw_size: u32::try_from(raw_size).with_context(too_big)?,
            raw_offset: u32::try_from(self.length).with_context(too_big)?,
            characteristics,
        };
        self.length += raw_size;
        self.headers.sections.push(section);
        self.write_section(index);
        self.update_totals(size).with_context(too_big)
    }

    /// Marks that the image needs pages that are both writable and executable.
    pub fn clear_nx_compatible(&mut self) {
        let at = self.headers.optional + optional::DLL_CHARACTERISTICS;
        let old = u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old & !NX_COMPAT).to_le_bytes());
        self.headers.nx_compatible = false;
    }

    /// Updates the number of sections, the size in memory and the size of all data after a section
    /// was added.
    fn update_totals(&mut self, size: u64) -> Result<()> {
        let count = u16::try_from(self.headers.sections.len())?;
        let at = self.headers.coff + coff::SECTION_COUNT;
        self.bytes[at..at + 2].copy_from_slice(&count.to_le_bytes());
        let Some(last) = self.headers.sections.last() else { bail!("it has no sections") };
        let end =
            self.align_in_memory(u64::from(last.virtual_address) + u64::from(last.virtual_size))?;
        self.put(optional::SIZE_OF_IMAGE, end);
        let data = u32_at(&self.bytes, self.headers.optional + optional::SIZE_OF_INITIALIZED_DATA)?;
        let data = u32::try_from(u64::from(data) + size)?;
        self.put(optional::SIZE_OF_INITIALIZED_DATA, data);
        Ok(())
    }

    fn align_in_memory(&self, address: u64) -> Result<u32> {
        Ok(u32::try_from(address.next_multiple_of(self.headers.section_alignment.into()))?)
    }

    fn write_section(&mut self, index: usize) {
        let at = self.headers.table + index * SECTION_SIZE;
        let section = self.headers.sections[index].to_bytes();
        self.bytes[at..at + SECTION_SIZE].copy_from_slice(&section);
    }

    fn put(&mut self, field: usize, value: u32) {
        put_u32(&mut self.bytes, self.headers.optional + field, value);
    }
}

fn section_at(file: &[u8], at: usize) -> Result<Section> {
    let name: [u8; NAME_SIZE] = bytes_at(file, at)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let field = |number: usize| u32_at(file, at + NAME_SIZE + 4 * number);
    Ok(Section {
        name: String::from_utf8_lossy(name).into_owned(),
        virtual_size: field(0)?,
        virtual_address: field(1)?,
        raw_size: field(2)?,
        raw_offset: field(3)?,
        characteristics: field(7)?,
    })
}

fn is_signed(file: &[u8], optional: usize) -> Result<bool> {
    let directories = u32_at(file, optional + optional::DIRECTORY_COUNT)?;
    Ok(directories > 4 && u32_at(file, optional + optional::SECURITY_DIRECTORY)? != 0)
}

fn alignment(file: &[u8], at: usize) -> Result<u32> {
    let value = u32_at(file, at)?;
    ensure!(value.is_power_of_two(), "this PE file is damaged: {value} is not an alignment");
    Ok(value)
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N);
    let bytes =
        end.and_then(|end| file.get(at..end)).context("this PE file is cut off in its headers")?;
    Ok(bytes.try_into()?)
}

fn u16_at(file: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes_at(file, at)?))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes_at(file, at)?))
}

/// The caller has read this place before, so it exists.
fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
pub(super) mod tests;
