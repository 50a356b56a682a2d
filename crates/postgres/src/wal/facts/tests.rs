//! Segments that servers wrote, and what the servers' own `pg_waldump` says of them (`fixtures/wal/<version>/records.txt`).

use super::*;
use crate::wal::{Record, SegmentSize};
use rstest::rstest;

fn folder(version: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wal").join(version)
}

/// The segments of a version, in their order.
fn segments(version: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder(version)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "zst"));
    files.sort();
    files.iter().map(|path| zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()).collect()
}

/// What `pg_waldump` says of the records that start in a segment.
fn as_the_server_says(records: &str, segment: &[u8]) -> SegmentFacts {
    let header = SegmentHeader::parse(segment.first_chunk().unwrap()).unwrap();
    let mut facts = SegmentFacts::default();
    for line in records.lines() {
        let record = Record::parse(line).unwrap();
        if header.size.segment_of(record.at) != header.size.segment_of(header.address) {
            continue;
        }
        if let Some(name) = record.restore_point() {
            // `pg_waldump` does not print its time.
            facts.restore_points.push(RestorePoint { name: name.into(), at: record.at, time: jiff::Timestamp::MIN });
        }
        for xid in record.committed().into_iter().chain(record.rolled_back()) {
            facts.xids = Some(facts.xids.map_or((xid, xid), |(low, high)| (low.min(xid), high.max(xid))));
        }
        if let Some(time) = record.commit_time() {
            let place = CommitPlace { at: record.at, time, xid: record.committed()[0] };
            let all = facts.commits.get_or_insert(Commits {
                count: 0,
                first: place,
                last: place,
                earliest: time,
                latest: time,
            });
            (all.count, all.last) = (all.count + 1, place);
            (all.earliest, all.latest) = (all.earliest.min(time), all.latest.max(time));
        }
    }
    facts
}

#[rstest]
#[case("15")]
#[case("18")]
fn segments_are_read_as_the_servers_own_program_reads_them(#[case] version: &str) {
    let records = std::fs::read_to_string(folder(version).join("records.txt")).unwrap();
    let (mut commits, mut restore_points) = (0, 0);
    for segment in segments(version) {
        let mut facts = SegmentFacts::of(&segment).unwrap();
        let commit = facts.commits.as_ref().map(|commits| commits.earliest);
        for point in &mut facts.restore_points {
            assert!(commit.is_none_or(|at| at.duration_until(point.time).as_secs().abs() < 60), "{point:?}");
            point.time = jiff::Timestamp::MIN;
        }
        let expected = as_the_server_says(&records, &segment);
        assert_eq!(SegmentFacts { open: false, ..facts.clone() }, expected);
        commits += facts.commits.map_or(0, |commits| commits.count);
        restore_points += facts.restore_points.len();
        let text = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<SegmentFacts>(&text).unwrap(), expected);
    }
    assert!(commits > 10 && restore_points == 3, "{commits}, {restore_points}");
}

/// Where the first commit of the segments is: which segment, where in it, and how long it is.
fn a_commit(version: &str) -> (Vec<u8>, usize) {
    for segment in segments(version) {
        if let Some(commits) = SegmentFacts::of(&segment).unwrap().commits {
            let start = SegmentHeader::parse(segment.first_chunk().unwrap()).unwrap().address;
            return (segment, commits.first.at.bytes_since(start) as usize);
        }
    }
    panic!("no commit");
}

#[test]
fn of_a_segment_with_anything_unusual_nothing_is_known() {
    let (segment, at) = a_commit("18");
    let known = SegmentFacts::of(&segment).unwrap();
    let changed = |at: usize, to: &[u8]| {
        let mut other = segment.clone();
        other[at..at + to.len()].copy_from_slice(to);
        SegmentFacts::of(&other)
    };
    let in_its_data = segment[at + RECORD + 4] ^ 1;
    assert!(changed(at + RECORD + 4, &[in_its_data]).unwrap_err().contains("checksum"));
    assert!(changed(at + 8, &[7; 8]).unwrap_err().contains("the one before it"));
    assert!(changed(at, &[0; 4]).unwrap_err().contains("0 bytes"));
    let page = at.next_multiple_of(PAGE);
    changed(page, &[0; 16]).unwrap_err();
    assert!(changed(page + 2, &OVERWRITTEN.to_le_bytes()).unwrap_err().contains("given up"));
    assert!(changed(0, &0xD119u16.to_le_bytes()).unwrap_err().contains("not known"));
    assert!(SegmentFacts::of(&segment[..segment.len() / 2]).unwrap_err().contains("in pages of"));
    SegmentFacts::of(&[]).unwrap_err();
    assert_eq!(SegmentFacts::of(&segment).unwrap(), known);
}

/// A segment whose last record is a commit that goes on in the next: nothing in it says that there is one but `open`.
#[test]
fn a_record_that_goes_on_in_the_next_segment_leaves_it_open() {
    let (segment, at) = a_commit("18");
    let size = SegmentSize::new(segment.len() as u64).unwrap();
    let record = &segment[at..at + word(&segment, at) as usize];
    assert!(at % PAGE + record.len() <= PAGE, "in one page");
    let open_with = |room: usize| {
        let end = segment.len();
        let mut bytes = vec![0; end];
        let header = SegmentHeader::parse(segment.first_chunk().unwrap()).unwrap();
        bytes[..SegmentHeader::LENGTH].copy_from_slice(&header.to_bytes());
        bytes[0..2].copy_from_slice(&0xD118u16.to_le_bytes());
        // The rest of a long record fills it.
        let mut rest = 0u32;
        for page in (0..end).step_by(PAGE) {
            rest += (if page == 0 { PAGE - SegmentHeader::LENGTH } else { PAGE - SHORT_HEADER }) as u32;
        }
        let mut left = rest - room as u32;
        for page in (0..end).step_by(PAGE) {
            let length = if page == 0 { SegmentHeader::LENGTH } else { SHORT_HEADER };
            bytes[page..page + 2].copy_from_slice(&0xD118u16.to_le_bytes());
            let info = CONTINUED | (u16::from(page == 0) * 2);
            bytes[page + 2..page + 4].copy_from_slice(&info.to_le_bytes());
            bytes[page + 8..page + 16].copy_from_slice(&(header.address.0 + page as u64).to_le_bytes());
            bytes[page + 16..page + 20].copy_from_slice(&left.to_le_bytes());
            left = left.saturating_sub((PAGE - length) as u32);
        }
        bytes[end - room..].copy_from_slice(&record[..room]);
        assert_eq!(bytes.len() as u64, size.bytes());
        SegmentFacts::of(&bytes).unwrap()
    };
    for room in [8, 16, 24, 32] {
        assert_eq!(open_with(room), SegmentFacts { open: true, ..SegmentFacts::default() }, "{room}");
    }
}
