//! Acts in one of the roles; see [`pages`] for the code and `--help` for usage.

use std::process::ExitCode;

use pages::options::{self, Command, HELP, Role};
use pages::{operator, serve, syncer, verbs};

fn main() -> ExitCode {
    let mut answer = None;
    let code = kiln_daemon::main("pages", env!("CARGO_PKG_VERSION"), |arguments| {
        match options::parse(&arguments)? {
            Command::Help => {
                print!("{HELP}");
                Ok(())
            }
            Command::Act(Role::Operator, rest) => operator::start(&rest),
            Command::Act(Role::Syncer, rest) => syncer::start(&rest),
            Command::Act(Role::Serve, rest) => serve::main(&rest),
            Command::Status(rest) => {
                answer = Some(verbs::end(verbs::status(&rest)));
                Ok(())
            }
            Command::Rollback(rest) => {
                answer = Some(verbs::end(verbs::rollback(&rest).map(|()| true)));
                Ok(())
            }
        }
    });
    answer.unwrap_or(code)
}
