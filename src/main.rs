//! The `cdc-drill` program.

fn main() -> std::process::ExitCode {
    cdc_drill::cli::main()
}
