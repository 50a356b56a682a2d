//! `wal push` killed at each of its moments, and on a full disk: what is acknowledged is whole, and nothing half is taken for a whole.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, Output},
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_engine::backup::{CheckOptions, CheckReport, Repository, check, wal};
use cdc_model::units::{SystemId, Timeline};
use rstest::rstest;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");
const SYSTEM: SystemId = SystemId(7711099509720704369);
const MIB: u64 = 1 << 20;

/// A server's folder with segments that wait to be archived, and a repository.
struct Server {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
}

/// The name of a segment of timeline 1.
fn name(number: u64) -> String {
    format!("{:08X}{:08X}{:08X}", 1, 0, number)
}

/// The header of a segment's first page, as `XLogLongPageHeaderData` has it.
fn header(number: u64) -> Vec<u8> {
    let mut bytes = vec![0x18, 0xD1, 2, 0];
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((number * MIB).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM.0.to_le_bytes());
    bytes.extend((MIB as u32).to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    bytes
}

impl Server {
    fn new() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        Repository::init(&root.join("repository")).unwrap();
        fs::create_dir_all(root.join("data/pg_wal/archive_status")).unwrap();
        Server { _folder: folder, root }
    }

    fn path(&self, number: u64) -> Utf8PathBuf {
        self.root.join("data/pg_wal").join(name(number))
    }

    /// A finished segment that does not compress.
    fn finish(&self, number: u64) {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut bytes: Vec<u8> = (0..MIB / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        let header = header(number);
        bytes[..header.len()].copy_from_slice(&header);
        fs::write(self.path(number), bytes).unwrap();
        fs::write(self.root.join(format!("data/pg_wal/archive_status/{}.ready", name(number))), "").unwrap();
    }

    /// What the server does once a segment is acknowledged.
    fn remove(&self, number: u64) {
        fs::remove_file(self.path(number)).unwrap();
        fs::remove_file(self.root.join(format!("data/pg_wal/archive_status/{}.ready", name(number)))).unwrap();
    }

    /// The command, in an environment or behind a prefix of the shell.
    fn push(&self, number: u64, before: &str, environment: &[(&str, String)]) -> Output {
        let line = format!(
            "{before} exec {PROGRAM} wal push --repository {0}/repository --pgdata {0}/data {1}",
            self.root,
            self.path(number)
        );
        Command::new("sh")
            .args(["-c", &line])
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .output()
            .unwrap()
    }

    fn check(&self) -> CheckReport {
        let repository = Repository::open(&self.root.join("repository")).unwrap();
        check(&repository, &CheckOptions { deep: true, tools: None, archiving: None }).unwrap()
    }

    /// What the archive has without a defect.
    fn archived(&self) -> Vec<u64> {
        let report = self.check();
        assert!(report.defects.is_empty(), "{:?}", report.defects);
        let repository = Repository::open(&self.root.join("repository")).unwrap();
        let segments = repository.archive(SYSTEM).segments(Timeline::FIRST).unwrap();
        segments.into_iter().map(|name| u64::from_str_radix(&name.to_string()[16..], 16).unwrap()).collect()
    }
}

/// Each moment, killed and failed, with segments that wait behind the one that is asked for. Whatever is left is whole, without a hole, and
/// the same command goes on from there.
#[rstest]
fn an_archiver_that_is_interrupted_leaves_nothing_half(#[values("kill", "fail")] how: &str) {
    let mut passed = Vec::new();
    for moment in wal::PUSH_MOMENTS {
        let server = Server::new();
        (1..=6).for_each(|number| server.finish(number));
        let interrupt = [("CDC_DRILL_INTERRUPT", format!("push:{moment}:{how}"))];
        let ended = server.push(1, "", &interrupt);
        match how {
            "kill" => assert_eq!(ended.status.signal(), Some(9), "{moment}: {ended:?}"),
            _ => assert!(!ended.status.success(), "{moment}: {ended:?}"),
        }
        let there = server.archived();
        assert_eq!(there, (1..=there.len() as u64).collect::<Vec<_>>(), "{moment}: none before its predecessor");
        passed.push(there.len());
        for number in 1..=6 {
            let done = server.push(number, "", &[]);
            assert!(done.status.success(), "{moment}: {done:?}");
            server.remove(number);
        }
        assert_eq!(server.archived(), [1, 2, 3, 4, 5, 6], "{moment}");
    }
    assert_eq!(passed.first(), Some(&0), "written is not named: {passed:?}");
    assert!(passed.contains(&1) && passed.last() == Some(&6), "the moments are different ones: {passed:?}");
}

/// No file may grow beyond a size, as on a disk that is full at that byte of it: an object, the note of what came last, or both.
#[test]
fn a_full_disk_acknowledges_nothing_and_leaves_nothing_half() {
    let server = Server::new();
    (1..=4).for_each(|number| server.finish(number));
    // In units of 512 bytes; 1 MiB does not fit into any of these.
    for blocks in [0, 1, 2, 7, 64, 1024, 2047] {
        let full = server.push(1, &format!("trap '' XFSZ; ulimit -f {blocks};"), &[]);
        assert!(full.status.code().is_some_and(|code| code > 0), "{blocks}: {full:?}");
        assert_eq!(server.archived(), Vec::<u64>::new(), "{blocks}");
        let left = fs::read_dir(server.root.join("repository/wal").join(SYSTEM.to_string()).join("00000001/00000000"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "{blocks}: nothing is left of it");
    }
    assert!(server.push(1, "", &[]).status.success());
    // The objects are there, and cannot be noted.
    let folder = server.root.join("repository/wal").join(SYSTEM.to_string());
    fs::remove_file(folder.join("head.json")).unwrap();
    let full = server.push(1, "trap '' XFSZ; ulimit -f 0;", &[]);
    assert!(full.status.code().is_some_and(|code| code > 0), "{full:?}");
    assert!(server.push(1, "", &[]).status.success());
    assert_eq!(server.archived(), [1, 2, 3, 4]);
}

/// A disk that has room for the segment that is asked for and none for those behind it: archiving goes on.
#[test]
fn a_disk_with_room_for_one_segment_takes_that_one() {
    if !nix::unistd::geteuid().is_root() {
        // A file system of its own takes an account that may mount one.
        return;
    }
    let server = Server::new();
    (1..=6).for_each(|number| server.finish(number));
    let disk = server.root.join("repository/wal");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2304k", "tmpfs", disk.as_str()]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    let _unmount = Unmount(&disk);
    fs::set_permissions(&disk, PermissionsExt::from_mode(0o700)).unwrap();
    assert!(server.push(1, "", &[]).status.success());
    // There is room for two.
    let taken = (2..=6).take_while(|number| server.push(*number, "", &[]).status.success()).count() + 1;
    assert!((1..=2).contains(&taken), "{taken}");
    assert_eq!(server.archived(), (1..=taken as u64).collect::<Vec<_>>());
    for number in 1..=taken as u64 {
        assert!(server.push(number, "", &[]).status.success(), "what is there is acknowledged on a full disk, too");
    }
}

struct Unmount<'a>(&'a Utf8Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.as_str()).status();
    }
}
