//! A pipeline that an operator looks after: it starts connectors again that a recovery has stopped, and makes topics again that it has deleted. The
//! recovery notices and does not go on; hooks keep the operator away.

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    process::{Command, Output, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_pipeline::client::{
    ClientError,
    connect::Connect,
    kafka::{Kafka, TopicSpec},
    wait,
};
use nix::{
    libc::{ENXIO, O_NONBLOCK},
    sys::stat::Mode,
};

use super::{
    PROGRAM,
    interrupted::killed,
    sandbox::{DEADLINE, Stack, expect},
};

const TOPIC: &str = "shop.public.orders";

/// Runs a command to its end, with something done while it stands at this moment.
async fn meanwhile(line: &str, moment: &str, pipe: &Utf8Path, operate: impl Future<Output = ()>) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(line.split(' '))
        .env("CDC_DRILL_BIN", PROGRAM)
        .env("CDC_DRILL_INTERRUPT", format!("{moment}:meet={pipe}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads the pipe before that moment.
    let there = loop {
        match std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(pipe) {
            Ok(there) => break there,
            Err(error) => assert_eq!(error.raw_os_error(), Some(ENXIO), "{error}"),
        }
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            panic!("it ended before {moment}: {}", String::from_utf8_lossy(&output.stderr));
        }
        tokio::task::yield_now().await;
    };
    operate.await;
    drop(there);
    child.wait_with_output().unwrap()
}

/// As an operator starts it, and the worker knows of it.
async fn started_again(connect: &Connect) {
    connect.resume("shop").await.unwrap();
    let look = || async {
        let status = connect.status("shop").await?;
        Ok::<_, ClientError>(match status.stands_still() {
            false => wait::Poll::Ready(()),
            true => wait::Poll::NotYet(status.summary()),
        })
    };
    wait::until("connector shop to be started again", DEADLINE, look).await.unwrap();
}

#[track_caller]
fn refused(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(11), "{said}");
    assert!(said.contains(part) && said.contains("hooks of [recovery.operator]"), "no `{part}` in {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_an_operator_undoes_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::up(root.join("stack"), "--registry h2");
    stack.pipeline("shop").await;
    let (kafka, connect) = (Kafka::of(&stack.config().kafka).unwrap(), Connect::of(&stack.config().connect));
    let file = stack.file();
    let (told, pipe) = (root.join("told"), root.join("pipe"));
    nix::unistd::mkfifo(pipe.as_std_path(), Mode::S_IRWXU).unwrap();
    let plain = std::fs::read_to_string(&file).unwrap();
    let with_hooks = |hold: &str| {
        let line = |verb: &str| format!("echo {verb} $CDC_DRILL_CONNECTORS $CDC_DRILL_TOPICS >>{told}");
        let hooks = format!("hold = '{}{hold}'\nrelease = '{}'", line("hold"), line("release"));
        std::fs::write(&file, format!("{plain}\n[recovery.operator]\n{hooks}\n")).unwrap();
    };
    let heard = || {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        std::fs::write(&told, "").unwrap();
        text
    };
    let (held, released) = (format!("hold shop {TOPIC}\n"), format!("release shop {TOPIC}\n"));
    with_hooks("");
    expect(0, &format!("backup create --config {file}"), "recovery point");
    stack.sql("shop").await.run("select pg_create_restore_point('before')").await.unwrap();
    stack.sql("shop").await.run("delete from orders where id <= 50; select pg_switch_wal()").await.unwrap();
    let run = format!("recover run coordinated --config {file} --target name:before --yes");

    // A hold that fails: nothing is begun.
    with_hooks("; exit 3");
    expect(13, &run, "[recovery.operator] hold: exit status 3");
    assert_eq!(heard(), format!("{held}{released}"));
    assert!(connect.status("shop").await.unwrap().all_running());
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");

    // One that is taken back lets the operator back.
    with_hooks("");
    killed(&run, "fence:before");
    assert_eq!(heard(), held, "it is unfinished");
    expect(0, &format!("recover abort --config {file}"), "the operator is let back");
    assert_eq!(heard(), released);

    // The connector is started again while the server is down.
    let output = meanwhile(&run, "open:before", &pipe, started_again(&connect)).await;
    refused(&output, "step open: expected connector shop STOPPED without tasks, found");
    assert_eq!(heard(), held, "the operator stays away from what is unfinished");

    // The topic is made again, as its resource says and not as it was.
    let was = kafka.topic_specs(&[TOPIC.to_owned()]).await.unwrap().remove(0);
    let other = TopicSpec { partitions: was.partitions + 1, ..was.clone() };
    let make = async { kafka.create_topics(&[other]).await.unwrap() };
    let output = meanwhile(&run, "recreate-topics:before", &pipe, make).await;
    refused(&output, &format!("step recreate-topics: expected topic {TOPIC} with"));
    assert_eq!(heard(), held);

    // And the connector, before its stored offset is deleted.
    let output = meanwhile(&run, "delete-offsets:before", &pipe, started_again(&connect)).await;
    refused(&output, "step delete-offsets: expected connector shop STOPPED without tasks, found");
    heard();

    expect(0, &run, "the topics hold what the tables hold");
    assert_eq!(heard(), format!("{held}{released}"));
    assert_eq!(kafka.topic_specs(&[TOPIC.to_owned()]).await.unwrap().remove(0), was);
    assert_eq!(stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap(), 200);
}
