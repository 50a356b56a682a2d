//! Topic ids, which the Rust binding of librdkafka does not hand on: a topic that was deleted and made again has the same
//! name and another id. Through the same connection as everything else, so that TLS and SASL hold here too.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr::null_mut,
    time::Duration,
};

use rdkafka::{admin::AdminClient, bindings as native, client::ClientContext, types::RDKafkaErrorCode};

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
    let client = admin.inner().native_ptr();
    let milliseconds = i32::try_from(deadline.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `client` lives as long as `admin`, which is borrowed. Each object made here is destroyed once, at the end of
    // this function and after everything that was read from it has been copied; `texts` outlives the call that reads it.
    unsafe {
        let topics = Owned(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        );
        let queue = Owned(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy);
        let options = Owned(
            native::rd_kafka_AdminOptions_new(client, native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            native::rd_kafka_AdminOptions_destroy,
        );
        let set = native::rd_kafka_AdminOptions_set_request_timeout(options.0, milliseconds, null_mut(), 0);
        if set != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(RDKafkaErrorCode::from(set).to_string());
        }
        native::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        let event = Owned(
            native::rd_kafka_queue_poll(queue.0, milliseconds.saturating_add(1000)),
            native::rd_kafka_event_destroy,
        );
        if event.0.is_null() {
            return Err("no answer".to_owned());
        }
        let code = native::rd_kafka_event_error(event.0);
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(RDKafkaErrorCode::from(code).to_string());
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err("an answer to another question".to_owned());
        }
        let mut count = 0;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut ids = BTreeMap::new();
        for at in 0..count {
            let topic = *described.add(at);
            let error = native::rd_kafka_TopicDescription_error(topic);
            let good = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !error.is_null() && native::rd_kafka_error_code(error) != good {
                continue;
            }
            let name = text(native::rd_kafka_TopicDescription_name(topic));
            let id = native::rd_kafka_Uuid_base64str(native::rd_kafka_TopicDescription_topic_id(topic));
            ids.insert(name, text(id));
        }
        Ok(ids)
    }
}

/// An object of librdkafka's and what destroys it.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    #[allow(unsafe_code, reason = "the object is this value's alone and is destroyed once")]
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: see above; the destructor is the one that belongs to the constructor.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// Copies a text; the empty one for null.
#[allow(unsafe_code, reason = "texts of C")]
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller hands over a text of librdkafka's, which ends with a zero byte.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
