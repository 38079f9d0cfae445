//! The conversation before the first message: SASL in lines of text.
//!
//! D-Bus Specification, "Authentication Protocol", "Authentication state diagrams" (the server's
//! side). Only EXTERNAL is offered: who the client is was asked of the kernel before, so what the
//! client claims is compared with it and proves nothing.

/// Longest line that is taken, in bytes; the longest that makes sense has about 30.
pub const LINE_MAX: usize = 512;

/// What is offered to a client that asks, or that asks for something else.
const REJECTED: &str = "REJECTED EXTERNAL\r\n";

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The one byte that carries credentials on other systems; always 0.
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

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Open,
    /// Messages begin after what was taken.
    Done {
        /// The client can take descriptors.
        descriptors: bool,
    },
    /// The client broke the protocol: it is disconnected.
    Broken,
}

impl Auth {
    /// For a client whose user id is `uid` by the kernel; `guid` names the server (32 hex digits).
    #[must_use]
    pub const fn new(uid: u32, guid: String) -> Self {
        Self { state: State::Nul, uid, guid, descriptors: false }
    }

    /// Takes whole lines from the front of `input` and appends the answers to `output`.
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

    /// The answer to a line, with its end; `None` for the one line that has none.
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

    /// The claim is the user id in decimal, each digit in hexadecimal; an empty one is as good.
    fn check(&mut self, claim: &str) -> String {
        // A digit's code in hexadecimal is 3 and the digit.
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
