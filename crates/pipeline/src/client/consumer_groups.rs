//! Groups of the consumer protocol (`group.protocol=consumer`, KIP-848). The older question about groups, which is all that
//! the Rust binding of librdkafka knows, is answered for them as if nobody were there.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CString, c_char},
    time::Duration,
};

use rdkafka::{admin::AdminClient, bindings as native, client::ClientContext};

use super::native::{ask, failure, text};

/// What a broker says of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Described {
    /// A group of the consumer protocol.
    Consumer {
        /// Its state.
        state: String,
        /// `client-id@host` of each member.
        members: Vec<String>,
        /// What its members read, or are about to.
        topics: BTreeSet<String>,
    },
    /// A group of another protocol, or none.
    Other,
    /// The broker does not say; why.
    Unknown(String),
}

/// Asks for these groups, by name. Blocks.
#[allow(unsafe_code, reason = "librdkafka's DescribeConsumerGroups has no safe binding")]
pub(super) fn describe<C: ClientContext>(
    admin: &AdminClient<C>,
    names: &[String],
    deadline: Duration,
) -> Result<BTreeMap<String, Described>, String> {
    // No group is an error to librdkafka.
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let texts: Result<Vec<CString>, _> = names.iter().map(|n| CString::new(n.as_str())).collect();
    let texts = texts.map_err(|_| "a group name holds a zero byte".to_owned())?;
    let mut pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let answer = ask(admin, operation, deadline, |client, options, queue| {
        // SAFETY: `texts` and the three others live during the call, which copies the names.
        unsafe {
            native::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
        }
    })?;
    // SAFETY: everything that is read belongs to `answer`, which lives to the end of this function, and is copied.
    unsafe {
        let result = native::rd_kafka_event_DescribeConsumerGroups_result(answer.event());
        if result.is_null() {
            return Err("an answer to another question".to_owned());
        }
        let mut count = 0;
        let groups = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        let mut described = BTreeMap::new();
        for at in 0..count {
            let group = *groups.add(at);
            described.insert(text(native::rd_kafka_ConsumerGroupDescription_group_id(group)), read(group));
        }
        Ok(described)
    }
}

/// # Safety
///
/// `group` is a description of librdkafka's that lives during the call.
#[allow(unsafe_code, reason = "librdkafka's descriptions of groups have no safe binding")]
unsafe fn read(group: *const native::rd_kafka_ConsumerGroupDescription_t) -> Described {
    use native::{rd_kafka_consumer_group_state_t as State, rd_kafka_consumer_group_type_t as Type};
    // SAFETY: the caller's promise; all that is read here belongs to the description.
    unsafe {
        if let Some(why) = failure(native::rd_kafka_ConsumerGroupDescription_error(group)) {
            return Described::Unknown(why);
        }
        if native::rd_kafka_ConsumerGroupDescription_type(group) != Type::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER {
            return Described::Other;
        }
        let state = match native::rd_kafka_ConsumerGroupDescription_state(group) {
            // The two words of this protocol for a rebalance that librdkafka has no number for.
            State::RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN => "Assigning or Reconciling".to_owned(),
            known => text(native::rd_kafka_consumer_group_state_name(known)),
        };
        let (mut members, mut topics) = (Vec::new(), BTreeSet::new());
        for at in 0..native::rd_kafka_ConsumerGroupDescription_member_count(group) {
            let member = native::rd_kafka_ConsumerGroupDescription_member(group, at);
            let client = text(native::rd_kafka_MemberDescription_client_id(member));
            members.push(format!("{client}@{}", text(native::rd_kafka_MemberDescription_host(member))));
            // During a rebalance a member reads what it was assigned, and will read what it is meant to be assigned.
            topics_of(native::rd_kafka_MemberDescription_assignment(member), &mut topics);
            topics_of(native::rd_kafka_MemberDescription_target_assignment(member), &mut topics);
        }
        Described::Consumer { state, members, topics }
    }
}

/// # Safety
///
/// `assignment` is null or an assignment of librdkafka's that lives during the call.
#[allow(unsafe_code, reason = "librdkafka's assignments have no safe binding")]
unsafe fn topics_of(assignment: *const native::rd_kafka_MemberAssignment_t, topics: &mut BTreeSet<String>) {
    if assignment.is_null() {
        return;
    }
    // SAFETY: the caller's promise; the list belongs to the assignment and has `cnt` elements.
    unsafe {
        let list = native::rd_kafka_MemberAssignment_partitions(assignment);
        if list.is_null() {
            return;
        }
        for at in 0..usize::try_from((*list).cnt).unwrap_or(0) {
            topics.insert(text((*(*list).elems.add(at)).topic));
        }
    }
}
