//! The `cdc-drill` program.

/// Drills decode and compare on many threads and then give everything back; the C library's allocator keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // That allocator asks for huge pages. A run whose memory comes and goes with its drills pays for clearing them: 267
    // and 278 s without, 288 to 317 s with them, and 0.1 GiB more. A kernel that cannot say no loses only that.
    let _ = nix::sys::prctl::set_thp_disable(true);
    cdc_harness::cli::main()
}
