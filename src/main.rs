//! The program `mixgemm`: it parses, calls the library, and prints one line for whatever is refused.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
