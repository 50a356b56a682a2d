//! Rows of a query, by COPY.

use futures::StreamExt;

use crate::{decode::row::Cell, observation::Rows};
use cdc_pipeline::client::{
    ClientError,
    postgres::{Postgres, cause},
};

/// Reads a query's rows by COPY, whose text is each type's own output.
pub(super) async fn rows(session: &Postgres, select: &str, columns: usize) -> Result<Rows, ClientError> {
    let sql = format!("copy ({select}) to stdout");
    let wrong = |e: tokio_postgres::Error| session.error(select, &e);
    let stream = session.copy_out(&sql).await.map_err(wrong)?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = Rows::default();
    let mut rest: Vec<u8> = Vec::new();
    let mut buffer = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| ClientError::answer("postgres", session.address(), select, "rows", cause(&e)))?;
        rest.extend_from_slice(&chunk);
        let mut start = 0;
        while let Some(length) = rest[start..].iter().position(|b| *b == b'\n') {
            line(&rest[start..start + length], columns, &mut buffer, &mut rows);
            start += length + 1;
        }
        rest.drain(..start);
    }
    Ok(rows)
}

/// One line of COPY's text format.
fn line(line: &[u8], columns: usize, buffer: &mut Vec<u8>, rows: &mut Rows) {
    buffer.clear();
    let mut cells: Vec<Option<(usize, usize)>> = Vec::with_capacity(columns);
    if columns > 0 {
        for field in line.split(|b| *b == b'\t') {
            if field == b"\\N" {
                cells.push(None);
                continue;
            }
            let start = buffer.len();
            unescape(field, buffer);
            cells.push(Some((start, buffer.len())));
        }
    }
    rows.add(cells.iter().map(|cell| match cell {
        Some((start, end)) => Cell::Text(&buffer[*start..*end]),
        None => Cell::Null,
    }));
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    if !field.contains(&b'\\') {
        out.extend_from_slice(field);
        return;
    }
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            (other, false) => *other,
        });
    }
}
