//! Records as the client hands them out.

use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};

use super::batch::{Record, Timestamp};

/// Copies a record out of the client's buffers.
pub(crate) fn copied(message: &BorrowedMessage<'_>) -> Record {
    let headers =
        message.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
    Record {
        offset: message.offset(),
        timestamp: match message.timestamp() {
            rdkafka::Timestamp::CreateTime(ms) if ms != -1 => Timestamp::Created(ms),
            rdkafka::Timestamp::LogAppendTime(ms) if ms != -1 => Timestamp::Appended(ms),
            _ => Timestamp::Absent,
        },
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
