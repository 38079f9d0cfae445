//! Authentication, which precedes the first message: SASL in lines of text.
//!
//! D-Bus Specification, "Authentication Protocol", "Authentication state diagrams" (the server's
//! side). Only EXTERNAL is offered. The kernel reports the client's identity, and the client's
//! claim is only compared with it.

/// The longest line in bytes. The longest useful line has about 30.
pub const LINE_MAX: usize = 512;

/// The offer to a client that asks for it, or for something else.
const REJECTED: &str = "REJECTED EXTERNAL\r\n";

/// The state of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for the byte that carries credentials on other systems. It is always 0.
    Nul,
    Auth,
    Data,
    Begin,
}

/// The server's side of one client's authentication.
#[derive(Debug)]
pub struct Auth {
    state: State,
    uid: u32,
    guid: String,
    descriptors: bool,
}

/// The result of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Open,
    /// Authentication is complete, and messages follow.
    Done {
        /// True if the client can take descriptors.
        descriptors: bool,
    },
    /// The client broke the protocol and must be disconnected.
    Broken,
}

impl Auth {
    /// Returns the state for a client with this user id, as the kernel reports it. `guid`
    /// identifies the server (32 hex digits).
    #[must_use]
    pub const fn new(uid: u32, guid: String) -> Self {
        Self { state: State::Nul, uid, guid, descriptors: false }
    }

    /// Takes complete lines from the front of `input` and appends the answers to `output`.
    pub fn advance(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Progress {
        if self.state == State::Nul && !input.is_empty() {
            if input.remove(0) != 0 {
                return Progress::Broken;
            }
            self.state = State::Auth;
        }
        while let Some(end) = input.windows(2).take(LINE_MAX).position(|two| two == b"\r\n") {
            let line: Vec<u8> = input.drain(..end + 2).take(end).collect();
            match self.answer(&line) {
                Some(answer) => output.extend_from_slice(answer.as_bytes()),
                None if self.state == State::Begin && line == b"BEGIN" => {
                    return Progress::Done { descriptors: self.descriptors };
                }
                None => return Progress::Broken,
            }
        }
        if input.len() > LINE_MAX { Progress::Broken } else { Progress::Open }
    }

    /// Returns the answer to a line, with its newline, or `None` for the one line without an
    /// answer.
    fn answer(&mut self, line: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let (command, argument) = text.split_once(' ').unwrap_or((text, ""));
        match (self.state, command) {
            (_, "BEGIN") => None,
            (State::Auth, "AUTH") => Some(self.auth(argument)),
            (State::Data, "DATA") => Some(self.check(argument)),
            (State::Data | State::Begin, "CANCEL") | (_, "ERROR") => Some(self.reject()),
            (State::Begin, "NEGOTIATE_UNIX_FD") => {
                self.descriptors = true;
                Some("AGREE_UNIX_FD\r\n".into())
            }
            _ => Some("ERROR\r\n".into()),
        }
    }

    fn auth(&mut self, argument: &str) -> String {
        match argument.split_once(' ') {
            Some(("EXTERNAL", claim)) => self.check(claim),
            None if argument == "EXTERNAL" => {
                self.state = State::Data;
                "DATA\r\n".into()
            }
            _ => self.reject(),
        }
    }

    /// Checks a claim: the user id in decimal, each digit in hexadecimal. An empty claim is valid
    /// too.
    fn check(&mut self, claim: &str) -> String {
        // The hexadecimal code of a digit is 3 and the digit.
        let uid: String = self.uid.to_string().chars().flat_map(|digit| ['3', digit]).collect();
        if claim.is_empty() || claim == uid {
            self.state = State::Begin;
            return format!("OK {}\r\n", self.guid);
        }
        self.reject()
    }

    fn reject(&mut self) -> String {
        self.state = State::Auth;
        REJECTED.into()
    }
}
