//! The `cdc-drill` program.

/// Drills decode and compare on many threads and then give everything back; the C library's allocator keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cdc_drill::cli::main()
}
