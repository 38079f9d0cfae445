//! Standard output and standard error.
//!
//! A reader that goes away (`cargo xtask size | head`) is the end of the output and not an error:
//! the rest is dropped, and the program stops as it does after ctrl-C, without a message. The
//! macros have the names of the standard library's, which panic in this case. Clippy's
//! `print_stdout` and `print_stderr` keep those out.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process;

/// The exit status after the reader has gone, as in shells: 128 + SIGPIPE.
pub const CLOSED: u8 = 141;

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// The outcome of one write.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Whole,
    /// The reader of the pipe has gone.
    NoReader,
}

/// Prints to standard output.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::output::write(format_args!($($text)*)) };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::output::write(format_args!("\n")) };
    ($($text:tt)*) => {{
        $crate::output::write(format_args!("{}\n", format_args!($($text)*)));
    }};
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::report(format_args!($($text)*)) };
}

/// Writes to standard output. Call it through the macros.
pub fn write(text: Arguments<'_>) {
    if is_closed() {
        return;
    }
    match write_to(&mut io::stdout().lock(), text) {
        Ok(Written::Whole) => {}
        Ok(Written::NoReader) => close(),
        Err(error) => {
            report(format_args!("error: cannot write to standard output: {error}"));
            close();
        }
    }
}

/// Writes a line to standard error. Call it through the macro.
pub fn report(text: Arguments<'_>) {
    // There is no other place for a message about this.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// True if standard output no longer has a reader.
pub fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Relaxed)
}

/// Makes all running work stop at its next check, as after ctrl-C.
fn close() {
    IS_CLOSED.store(true, Ordering::Relaxed);
    process::interrupt();
}

fn write_to(out: &mut impl Write, text: Arguments<'_>) -> io::Result<Written> {
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Whole),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::NoReader),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_without_a_reader_is_the_end_of_the_output() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(write_to(&mut writer, format_args!("a")).unwrap(), Written::Whole);
        drop(reader);
        assert_eq!(write_to(&mut writer, format_args!("b")).unwrap(), Written::NoReader);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(write_to(&mut full, format_args!("a")).is_err());
    }
}
