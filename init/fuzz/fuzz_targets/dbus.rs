//! The login1 conversation on any bytes: it never panics, and where they are cut changes nothing.
//!
//! `cargo fuzz run -s none dbus` in `init`.

#![no_main]

use kiln_init::login1::connection::{Connection, Effect};
use kiln_init::login1::wire;
use libfuzzer_sys::fuzz_target;

/// Everything that one client makes the server do, as bytes.
fn effects(connection: &mut Connection, chunk: &[u8], into: &mut Vec<u8>) -> bool {
    let Ok(effects) = connection.receive(chunk) else { return false };
    for effect in effects {
        match effect {
            Effect::Send(bytes) => into.extend(bytes),
            other => into.extend(format!("{other:?}").into_bytes()),
        }
    }
    true
}

fuzz_target!(|input: &[u8]| {
    let _ = wire::parse(input);
    let client = || Connection::new(1, 0, "0".repeat(32));
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let fine = effects(&mut client(), input, &mut whole);
    let mut connection = client();
    let bytes = input.chunks(1).all(|chunk| effects(&mut connection, chunk, &mut parts));
    assert_eq!(fine, bytes);
    assert!(!fine || whole == parts);
});
