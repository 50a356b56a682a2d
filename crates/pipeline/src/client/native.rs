//! Questions that librdkafka answers and its Rust binding does not hand on: how one is asked, and who frees what. Through
//! the same connection as everything else, so that TLS and SASL hold here too.

use std::{
    ffi::{CStr, c_char},
    ptr::null_mut,
    time::Duration,
};

use rdkafka::{admin::AdminClient, bindings as native, client::ClientContext, types::RDKafkaErrorCode};

/// An object of librdkafka's and what destroys it.
pub(super) struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    /// Takes over an object that nobody else destroys; `destroy` is the one that belongs to its constructor.
    pub(super) fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Owned<T> {
        Owned(object, destroy)
    }

    /// The object, for as long as this value lives.
    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

impl<T> Drop for Owned<T> {
    #[allow(unsafe_code, reason = "the object is this value's alone and is destroyed once")]
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: see above; the destructor is the one that belongs to the constructor.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// An answer, from which results are read while it lives. The fields are dropped in this order: the event goes before the
/// queue that it came through.
pub(super) struct Answer {
    event: Owned<native::rd_kafka_event_t>,
    _queue: Owned<native::rd_kafka_queue_t>,
}

impl Answer {
    /// The event of the answer; it is not null and bears no error.
    pub(super) fn event(&self) -> *mut native::rd_kafka_event_t {
        self.event.get()
    }
}

/// Asks, and waits for the answer. `send` hands the question over with the options and the queue that it is given; it must
/// not keep them. Blocks.
#[allow(unsafe_code, reason = "the admin calls of librdkafka without a safe binding")]
pub(super) fn ask<C: ClientContext>(
    admin: &AdminClient<C>,
    operation: native::rd_kafka_admin_op_t,
    deadline: Duration,
    send: impl FnOnce(*mut native::rd_kafka_t, *mut native::rd_kafka_AdminOptions_t, *mut native::rd_kafka_queue_t),
) -> Result<Answer, String> {
    let client = admin.inner().native_ptr();
    let milliseconds = i32::try_from(deadline.as_millis()).unwrap_or(i32::MAX);
    // A question that an old broker does not know is asked again in its older form, with a deadline of its own.
    let patience = milliseconds.saturating_mul(2).saturating_add(1000);
    // SAFETY: `client` lives as long as `admin`, which is borrowed. Each object made here is destroyed once, by its owner:
    // also one whose question is still under way, as librdkafka counts references to the queue.
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy);
        let options =
            Owned::new(native::rd_kafka_AdminOptions_new(client, operation), native::rd_kafka_AdminOptions_destroy);
        let set = native::rd_kafka_AdminOptions_set_request_timeout(options.get(), milliseconds, null_mut(), 0);
        if set != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(RDKafkaErrorCode::from(set).to_string());
        }
        send(client, options.get(), queue.get());
        let event = Owned::new(native::rd_kafka_queue_poll(queue.get(), patience), native::rd_kafka_event_destroy);
        if event.get().is_null() {
            return Err("no answer".to_owned());
        }
        let code = native::rd_kafka_event_error(event.get());
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(RDKafkaErrorCode::from(code).to_string());
        }
        Ok(Answer { event, _queue: queue })
    }
}

/// Copies a text; the empty one for null.
///
/// # Safety
///
/// `pointer` is null or a text of librdkafka's that ends with a zero byte and lives during the call.
#[allow(unsafe_code, reason = "texts of C")]
pub(super) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// What an error object says; nothing for null and for success.
///
/// # Safety
///
/// `error` is null or an error object of librdkafka's that lives during the call.
#[allow(unsafe_code, reason = "errors of C")]
pub(super) unsafe fn failure(error: *const native::rd_kafka_error_t) -> Option<String> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; the text belongs to the error.
    unsafe {
        let good = native::rd_kafka_error_code(error) == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if good { None } else { Some(text(native::rd_kafka_error_string(error))) }
    }
}
