//! Topic ids, which the Rust binding of librdkafka does not hand on: a topic that was deleted and made again has the same
//! name and another id.

use std::{
    collections::BTreeMap,
    ffi::{CString, c_char},
    time::Duration,
};

use rdkafka::{admin::AdminClient, bindings as native, client::ClientContext};

use super::native::{Owned, ask as asked, failure, text};

/// Asks for the ids of these topics, in base64 as Kafka's own tools print them; unknown topics are left out. Blocks.
#[allow(unsafe_code, reason = "librdkafka's DescribeTopics has no safe binding")]
pub(super) fn ask<C: ClientContext>(
    admin: &AdminClient<C>,
    names: &[String],
    deadline: Duration,
) -> Result<BTreeMap<String, String>, String> {
    let texts: Result<Vec<CString>, _> = names.iter().map(|n| CString::new(n.as_str())).collect();
    let texts = texts.map_err(|_| "a topic name holds a zero byte".to_owned())?;
    let mut pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
    // SAFETY: `texts` outlives the call that copies it.
    let topics = unsafe {
        Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        )
    };
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let answer = asked(admin, operation, deadline, |client, options, queue| {
        // SAFETY: all four live during the call, which copies the names.
        unsafe { native::rd_kafka_DescribeTopics(client, topics.get(), options, queue) }
    })?;
    // SAFETY: everything that is read belongs to `answer`, which lives to the end of this function, and is copied.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(answer.event());
        if result.is_null() {
            return Err("an answer to another question".to_owned());
        }
        let mut count = 0;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut ids = BTreeMap::new();
        for at in 0..count {
            let topic = *described.add(at);
            if failure(native::rd_kafka_TopicDescription_error(topic)).is_some() {
                continue;
            }
            let name = text(native::rd_kafka_TopicDescription_name(topic));
            let id = native::rd_kafka_Uuid_base64str(native::rd_kafka_TopicDescription_topic_id(topic));
            ids.insert(name, text(id));
        }
        Ok(ids)
    }
}
