//! D-Bus messages as bytes: the part of the format that kubelet's conversation needs.
//!
//! D-Bus Specification, "Message Protocol". Incoming messages may have either byte order and are
//! checked strictly: lengths, padding, strings, types. Bodies have basic types only, because the
//! answered calls have no others. Outgoing messages are little-endian.

/// The longest message in bytes. kubelet's longest has about 250.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// The length of the fixed part of a header and the length of its array of fields.
const FIXED: usize = 16;

/// `NO_REPLY_EXPECTED` in a message's flags.
const NO_REPLY_EXPECTED: u8 = 1;

/// The reason why bytes are not a message. It ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// A byte order other than `l` and `B`.
    ByteOrder,
    /// A major version of the protocol other than 1.
    Version,
    /// A message longer than [`MESSAGE_MAX`], or a length that leads out of the message.
    Length,
    /// Padding that is not zero.
    Padding,
    /// A string that is not UTF-8, does not end with a NUL, or contains one.
    Text,
    /// A type that is not basic.
    Type,
    /// A value that its type does not have: a serial of 0, a boolean of 2.
    Value,
    /// A missing header field.
    Missing,
}

/// The byte order of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// A value of a basic type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`.
    Byte(u8),
    /// `b`.
    Bool(bool),
    /// `n`, `i`, `x`.
    Signed(i64),
    /// `q`, `u`, `t`, and `h`, which is the index of a descriptor.
    Unsigned(u64),
    /// `d`.
    Double(f64),
    /// `s`, `o`, `g`.
    Text(String),
}

/// An incoming message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// 1 is a call, 2 a reply, 3 an error, 4 a signal.
    pub kind: u8,
    /// True if the sender expects no reply.
    pub no_reply: bool,
    /// The sender's serial number, never 0.
    pub serial: u32,
    /// The called object.
    pub path: String,
    /// The method's interface, or empty if the sender left it out.
    pub interface: String,
    /// The method's name.
    pub member: String,
    /// The types of the body.
    pub signature: String,
    /// The body.
    pub body: Vec<Value>,
}

/// The kind of a method call.
pub const CALL: u8 = 1;

/// Returns the length of the first message in `bytes`, or `None` while its fixed part is
/// incomplete.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
    let order = order(fixed[0])?;
    if fixed[3] != 1 {
        return Err(WireError::Version);
    }
    let mut reader = Reader { bytes: fixed, at: 4, order };
    let (body, _serial) = (reader.length()?, reader.u32()?);
    let fields = reader.length()?;
    let length = FIXED + fields.next_multiple_of(8) + body;
    if length > MESSAGE_MAX { Err(WireError::Length) } else { Ok(Some(length)) }
}

/// Parses a message. `bytes` have exactly the length that [`frame`] returned.
pub fn parse(bytes: &[u8]) -> Result<Message, WireError> {
    let order = order(*bytes.first().ok_or(WireError::Length)?)?;
    let mut reader = Reader { bytes, at: 1, order };
    let (kind, flags, _version) = (reader.byte()?, reader.byte()?, reader.byte()?);
    let (body, serial) = (reader.length()?, reader.u32()?);
    if serial == 0 {
        return Err(WireError::Value);
    }
    let no_reply = flags & NO_REPLY_EXPECTED != 0;
    let mut message = Message { kind, no_reply, serial, ..Message::default() };
    let end = reader.length()? + FIXED;
    while reader.at < end {
        reader.align(8)?;
        reader.field(&mut message)?;
    }
    reader.align(8)?;
    if reader.at != end.next_multiple_of(8) || bytes.len().checked_sub(reader.at) != Some(body) {
        return Err(WireError::Length);
    }
    // Alignment in the body counts from its start, which is a multiple of eight.
    message.body = reader.values(&message.signature)?;
    if kind == 0 || (kind == CALL && (message.path.is_empty() || message.member.is_empty())) {
        return Err(WireError::Missing);
    }
    Ok(message)
}

fn order(byte: u8) -> Result<Order, WireError> {
    match byte {
        b'l' => Ok(Order::Little),
        b'B' => Ok(Order::Big),
        _ => Err(WireError::ByteOrder),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let end = self.at.checked_add(N).ok_or(WireError::Length)?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError::Length)?;
        self.at = end;
        taken.try_into().map_err(|_| WireError::Length)
    }

    /// Reads a number, aligned to its own size like all fixed types.
    fn number<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.align(N)?;
        let mut bytes = self.take::<N>()?;
        if self.order == Order::Big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn align(&mut self, to: usize) -> Result<(), WireError> {
        let end = self.at.next_multiple_of(to);
        let padding = self.bytes.get(self.at..end).ok_or(WireError::Length)?;
        self.at = end;
        if padding.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(WireError::Padding) }
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    /// Reads a length. It is at most the length of the longest message.
    fn length(&mut self) -> Result<usize, WireError> {
        let length = usize::try_from(self.u32()?).map_err(|_| WireError::Length)?;
        if length > MESSAGE_MAX { Err(WireError::Length) } else { Ok(length) }
    }

    fn text(&mut self, length: usize) -> Result<String, WireError> {
        let end = self.at.checked_add(length).ok_or(WireError::Length)?;
        let text = self.bytes.get(self.at..end).ok_or(WireError::Length)?;
        self.at = end;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(WireError::Text);
        }
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Text)
    }

    fn signature(&mut self) -> Result<String, WireError> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }

    /// Reads a structure of a code and a variant. Unknown fields are skipped, as the specification
    /// asks.
    fn field(&mut self, message: &mut Message) -> Result<(), WireError> {
        let code = self.byte()?;
        let signature = self.signature()?;
        let [kind] = signature.as_bytes() else { return Err(WireError::Type) };
        let value = self.value(*kind)?;
        let place = match code {
            1 => &mut message.path,
            2 => &mut message.interface,
            3 => &mut message.member,
            8 => &mut message.signature,
            0 => return Err(WireError::Value),
            _ => return Ok(()),
        };
        let Value::Text(text) = value else { return Err(WireError::Type) };
        *place = text;
        Ok(())
    }

    fn values(&mut self, signature: &str) -> Result<Vec<Value>, WireError> {
        let values = signature.bytes().map(|kind| self.value(kind)).collect::<Result<_, _>>()?;
        if self.at == self.bytes.len() { Ok(values) } else { Err(WireError::Length) }
    }

    fn value(&mut self, kind: u8) -> Result<Value, WireError> {
        Ok(match kind {
            b'y' => Value::Byte(self.byte()?),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(WireError::Value),
            },
            b'n' => Value::Signed(i16::from_le_bytes(self.number()?).into()),
            b'i' => Value::Signed(i32::from_le_bytes(self.number()?).into()),
            b'x' => Value::Signed(i64::from_le_bytes(self.number()?)),
            b'q' => Value::Unsigned(u16::from_le_bytes(self.number()?).into()),
            b'u' | b'h' => Value::Unsigned(self.u32()?.into()),
            b't' => Value::Unsigned(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.number()?)),
            b's' | b'o' => {
                let length = self.length()?;
                Value::Text(self.text(length)?)
            }
            b'g' => Value::Text(self.signature()?),
            _ => return Err(WireError::Type),
        })
    }
}

/// An outgoing message, in the terms of the specification.
#[derive(Debug, Clone, Copy)]
pub enum Out<'a> {
    /// The reply to a call.
    Reply {
        /// The call's serial.
        to: u32,
    },
    /// The refusal of a call.
    Error {
        /// The call's serial.
        to: u32,
        /// The error's name.
        name: &'a str,
    },
    /// A signal. Path and interface are always present, because godbus panics without them.
    Signal {
        /// The object that sends it.
        path: &'a str,
        /// The signal's interface.
        interface: &'a str,
        /// The signal's name.
        member: &'a str,
    },
}

/// The body of an outgoing message.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// An empty body.
    Empty,
    /// `s`.
    Text(&'a str),
    /// `b`.
    Bool(bool),
    /// A `v` that holds a `t`.
    VariantU64(u64),
    /// An `h`: the first and only descriptor of the message.
    Descriptor,
}

/// Encodes a message. `serial` must not be 0, and `name` is the receiver's.
#[must_use]
pub fn message(serial: u32, name: &str, sender: &str, out: Out<'_>, body: Body<'_>) -> Vec<u8> {
    let (signature, body) = encode_body(body);
    let mut fields = Writer::default();
    let kind = match out {
        Out::Reply { to } => {
            fields.field_u32(5, to);
            2
        }
        Out::Error { to, name } => {
            fields.field_text(4, b's', name);
            fields.field_u32(5, to);
            3
        }
        Out::Signal { path, interface, member } => {
            fields.field_text(1, b'o', path);
            fields.field_text(2, b's', interface);
            fields.field_text(3, b's', member);
            4
        }
    };
    if !name.is_empty() {
        fields.field_text(6, b's', name);
    }
    fields.field_text(7, b's', sender);
    if !signature.is_empty() {
        fields.field_signature(signature);
    }
    if signature == "h" {
        fields.field_u32(9, 1);
    }
    // Messages other than calls expect no reply.
    let mut whole = Writer(vec![b'l', kind, NO_REPLY_EXPECTED, 1]);
    whole.u32(length(&body));
    whole.u32(serial);
    whole.u32(length(&fields.0));
    whole.0.extend_from_slice(&fields.0);
    whole.align(8);
    whole.0.extend_from_slice(&body);
    whole.0
}

fn encode_body(body: Body<'_>) -> (&'static str, Vec<u8>) {
    let mut writer = Writer::default();
    let signature = match body {
        Body::Empty => "",
        Body::Text(text) => {
            writer.text(text);
            "s"
        }
        Body::Bool(value) => {
            writer.u32(value.into());
            "b"
        }
        Body::VariantU64(value) => {
            writer.signature("t");
            writer.align(8);
            writer.0.extend_from_slice(&value.to_le_bytes());
            "v"
        }
        Body::Descriptor => {
            writer.u32(0);
            "h"
        }
    };
    (signature, writer.0)
}

/// Returns the length of an encoded part, which is always short.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A writer that starts at an offset that is a multiple of eight.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.as_bytes()));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// Writes a signature of a few characters.
    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(signature.as_bytes());
        self.0.push(0);
    }

    fn begin_field(&mut self, code: u8, kind: u8) {
        self.align(8);
        self.0.extend_from_slice(&[code, 1, kind, 0]);
    }

    fn field_u32(&mut self, code: u8, value: u32) {
        self.begin_field(code, b'u');
        self.u32(value);
    }

    fn field_text(&mut self, code: u8, kind: u8, text: &str) {
        self.begin_field(code, kind);
        self.text(text);
    }

    fn field_signature(&mut self, signature: &str) {
        self.begin_field(8, b'g');
        self.signature(signature);
    }
}
