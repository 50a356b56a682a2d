//! Bytes flipped in heap pages under the living server.
//!
//! A flip under a cached page heals itself when the page is written back, so the page is written and evicted first, and
//! looked for in the cache again after the flip.

use std::{collections::BTreeMap, os::unix::fs::FileExt};

use camino::Utf8PathBuf;

use super::{FaultError, Target};
use cdc_model::{
    event::Landed,
    units::{TableName, counted},
};
use cdc_pipeline::client::{
    ClientError, limits,
    postgres::Postgres,
    wait::{self, Poll},
};
use cdc_postgres::{sql, version::Version};

const FAULT: &str = "flip-heap-bytes";
/// PostgreSQL's page, as every distribution builds it.
const PAGE: u64 = 8192;
/// Pages in one file of a relation: 1 GiB.
const PAGES_A_FILE: u64 = 131_072;
/// How much of the page is flipped, from its end: rows stand there.
const FLIPPED: usize = 256;

/// A table that fills the cache of an older server.
const CROWD: &str = "public.cdc_drill_crowd";

/// Damaged pages.
#[derive(Debug)]
pub(super) struct Flipped {
    table: TableName,
    /// Rows that stood in each damaged block.
    blocks: BTreeMap<u64, u64>,
}

impl Flipped {
    pub(super) async fn inject(
        target: &Target,
        table: &TableName,
        pages: u32,
        seed: u64,
    ) -> Result<Flipped, FaultError> {
        let db = target.sql().await.map_err(FaultError::client(FAULT))?;
        let blocks = choose(&db, table, pages, seed).await?;
        let path = relation_path(target, &db, table).await?;
        let cache = Cache::open(target).await.map_err(FaultError::client(FAULT))?;
        let mut flipped = Ok(());
        for block in blocks.keys() {
            flipped = flip_uncached(&cache, &db, table, &path, *block).await;
            if flipped.is_err() {
                break;
            }
        }
        cache.close().await.map_err(FaultError::client(FAULT))?;
        flipped?;
        Ok(Flipped { table: table.clone(), blocks })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let db = target.sql().await.map_err(FaultError::client(FAULT))?;
        let mut evidence = Vec::new();
        let mut landed = Landed::Confirmed;
        for (block, rows) in &self.blocks {
            // By address, so that no index can answer instead of the page.
            let sql = format!("select ctid from {} where ctid = '({block},1)'", self.table.quoted());
            match db.texts(&sql).await {
                Err(ClientError::Answer { found, .. })
                    if found.contains(&format!("invalid page in block {block} ")) =>
                {
                    evidence.push(format!("block {block} ({rows}): {found}", rows = counted(*rows, "row")));
                }
                Err(error @ ClientError::Unreachable { .. }) => return Err(FaultError::client(FAULT)(error)),
                other => {
                    landed = Landed::Mismatch;
                    let seen = other.map_or_else(|e| e.to_string(), |_| "read without an error".to_owned());
                    evidence.push(format!("block {block} ({rows}): {seen}", rows = counted(*rows, "row")));
                }
            }
        }
        Ok((landed, format!("table {}: {}", self.table, evidence.join("; "))))
    }
}

/// Blocks that hold rows, spread over the table; which ones is decided by the seed.
async fn choose(db: &Postgres, table: &TableName, pages: u32, seed: u64) -> Result<BTreeMap<u64, u64>, FaultError> {
    let sql = format!(
        "select split_part(trim('(' from ctid::text), ',', 1)::bigint as block, count(*) from {} group by 1 order by 1",
        table.quoted()
    );
    let rows = db.texts(&sql).await.map_err(FaultError::client(FAULT))?;
    let cell = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().and_then(|t| t.parse::<u64>().ok());
    let there: Vec<(u64, u64)> = rows.iter().filter_map(|row| cell(row, 0).zip(cell(row, 1))).collect();
    let (wanted, found) = (pages as usize, there.len());
    if wanted == 0 || found < wanted {
        let expected = format!("at least {} with rows", counted(wanted.max(1), "page"));
        return Err(FaultError::unfit(
            FAULT,
            table,
            expected,
            found.to_string(),
            "load more rows, or damage fewer pages",
        ));
    }
    let step = found / wanted;
    let shift = seed as usize % step;
    Ok((0..wanted).map(|at| there[at * step + shift]).collect())
}

async fn relation_path(target: &Target, db: &Postgres, table: &TableName) -> Result<Utf8PathBuf, FaultError> {
    let checksums = db.text("show data_checksums").await.map_err(FaultError::client(FAULT))?;
    if checksums.as_deref() != Some("on") {
        let found = checksums.unwrap_or_default();
        let hint = "without checksums a flipped byte is another value, not an error: use `initdb -k`";
        return Err(FaultError::unfit(FAULT, table, "data_checksums on", found, hint));
    }
    let quoted = sql::literal(&table.quoted());
    let path: String =
        db.value(&format!("select pg_relation_filepath({quoted})")).await.map_err(FaultError::client(FAULT))?;
    Ok(target.config.postgres.pgdata.join(path))
}

async fn flip_uncached(
    cache: &Cache,
    db: &Postgres,
    table: &TableName,
    path: &Utf8PathBuf,
    block: u64,
) -> Result<(), FaultError> {
    let database: String = db.value("select current_database()").await.map_err(FaultError::client(FAULT))?;
    let quoted = sql::literal(&table.quoted());
    let node: u64 =
        db.value(&format!("select pg_relation_filenode({quoted})")).await.map_err(FaultError::client(FAULT))?;
    let page = format!(
        "from pg_buffercache where relfilenode = {node} and relforknumber = 0 and relblocknumber = {block} \
         and reldatabase = (select oid from pg_database where datname = {})",
        sql::literal(&database)
    );
    db.run("checkpoint").await.map_err(FaultError::client(FAULT))?;
    let what = format!("block {block} of {table} damaged and not cached");
    let damage = wait::until(&what, limits::faults::PAGE_EVICTED, || async {
        cache.evict(&page).await?;
        if cache.holds(&page).await? {
            return Ok::<_, ClientError>(Poll::NotYet("the page is pinned".into()));
        }
        let done = damage(path, block);
        // Somebody may have read the sound page in between: evicting it may write it back, so look at the file again.
        if done.is_ok() && cache.holds(&page).await? {
            return Ok(Poll::NotYet("the page was cached again".into()));
        }
        Ok(Poll::Ready(done))
    });
    damage.await.map_err(FaultError::client(FAULT))?
}

/// The server's cache, seen from a database where nothing is captured: what it takes to look at it goes there.
struct Cache {
    db: Postgres,
    /// Whether there is a function that evicts a page. Before version 17 there is none: reading a table that is larger than
    /// the cache crowds everything else out.
    by_name: bool,
}

impl Cache {
    async fn open(target: &Target) -> Result<Cache, ClientError> {
        let db = Postgres::connect_database(&target.config.postgres.url, "postgres", "cdc-drill fault").await?;
        db.run("create extension if not exists pg_buffercache").await?;
        let by_name = db.value::<Version>(Version::SQL).await?.evicts_pages();
        if !by_name {
            // Unlogged, so nothing of it reaches the WAL; one row fills a page.
            db.run(&format!(
                "create extension if not exists pg_prewarm; drop table if exists {CROWD}; \
                 create unlogged table {CROWD} (filler text); \
                 alter table {CROWD} alter filler set storage plain; \
                 insert into {CROWD} select repeat('x', 7000) from generate_series(1, \
                 (select setting::int * 3 / 2 from pg_settings where name = 'shared_buffers'))"
            ))
            .await?;
        }
        Ok(Cache { db, by_name })
    }

    /// Evicts a page, which is told by the rest of a query on `pg_buffercache`.
    async fn evict(&self, page: &str) -> Result<(), ClientError> {
        match self.by_name {
            true => self.db.run(&format!("do $$ begin perform pg_buffercache_evict(bufferid) {page}; end $$")).await,
            false => self.db.run(&format!("select pg_prewarm('{CROWD}', 'buffer')")).await,
        }
    }

    async fn holds(&self, page: &str) -> Result<bool, ClientError> {
        Ok(self.db.value::<u64>(&format!("select count(*) {page}")).await? > 0)
    }

    async fn close(self) -> Result<(), ClientError> {
        if self.by_name { Ok(()) } else { self.db.run(&format!("drop table {CROWD}")).await }
    }
}

/// Flips the rows' bytes at the end of a page, unless they are flipped already.
fn damage(path: &Utf8PathBuf, block: u64) -> Result<(), FaultError> {
    let file_number = block / PAGES_A_FILE;
    let path = if file_number == 0 { path.clone() } else { Utf8PathBuf::from(format!("{path}.{file_number}")) };
    let fail = || FaultError::file(FAULT, "change", path.clone());
    let file = std::fs::File::options().read(true).write(true).open(&path).map_err(fail())?;
    let start = (block % PAGES_A_FILE) * PAGE;
    let mut page = vec![0; PAGE as usize];
    file.read_exact_at(&mut page, start).map_err(fail())?;
    let stored = u16::from_le_bytes([page[CHECKSUM_AT], page[CHECKSUM_AT + 1]]);
    if checksum(&page, block as u32) != stored {
        return Ok(());
    }
    let end = page.len() - FLIPPED;
    for byte in &mut page[end..] {
        *byte = !*byte;
    }
    file.write_all_at(&page[end..], start + end as u64).map_err(fail())?;
    file.sync_data().map_err(fail())
}

/// Where the checksum stands in a page's header.
const CHECKSUM_AT: usize = 8;
/// Bases of PostgreSQL's page checksum: 32 interleaved FNV-1a sums.
const BASES: [u32; 32] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C, 0xF8D4474F,
    0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB, 0xE58F764B, 0x187636BC,
    0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4, 0x783125BB, 0x6CA8EAA2, 0xE407EAC6,
    0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];
const PRIME: u32 = 16_777_619;

/// The checksum of a page as PostgreSQL computes it, with the checksum's own place taken as zero.
fn checksum(page: &[u8], block: u32) -> u16 {
    let mut sums = BASES;
    let step = |sum: u32, value: u32| {
        let mixed = sum ^ value;
        mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
    };
    for (row, words) in page.chunks_exact(4 * sums.len()).enumerate() {
        for (at, word) in words.chunks_exact(4).enumerate() {
            let mut word: [u8; 4] = [word[0], word[1], word[2], word[3]];
            if row == 0 && at == CHECKSUM_AT / 4 {
                (word[0], word[1]) = (0, 0);
            }
            sums[at] = step(sums[at], u32::from_le_bytes(word));
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = step(*sum, 0);
        }
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    (folded % 65_535 + 1) as u16
}
