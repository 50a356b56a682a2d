//! A server of objects on this machine, for repositories in buckets.

use std::{
    fs::File,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::stack::{PortLease, Silent, object_server};
use cdc_pipeline::{
    client::wait::{self, Poll},
    config::Config,
};

use super::sandbox::{DEADLINE, Said, Stack, cdc_drill_with};

const KEY: &str = "drill";
const SECRET: &str = "not-a-secret";
/// One port each, and one more for its internal protocol.
const ROLES: [&str; 4] = ["master", "volume", "filer", "s3"];

/// A server that ends with this value, and with the thread that made it.
pub(super) struct ObjectServer {
    child: Child,
    /// What it leaves where it was not asked to: the names are its own.
    sockets: Vec<Utf8PathBuf>,
    endpoint: String,
    _ports: Vec<PortLease>,
    _folder: tempfile::TempDir,
}

impl ObjectServer {
    /// Brings up a server with one bucket.
    pub(super) async fn up(bucket: &str) -> ObjectServer {
        let program = object_server(&Silent).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let identities = format!(
            r#"{{"identities": [{{"name": "drill", "actions": ["Admin", "Read", "Write", "List"],
                "credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}]}}]}}"#
        );
        let config = root.join("s3.json");
        std::fs::write(&config, identities).unwrap();
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::create_dir(root.join("data")).unwrap();
        // Sent to this process's death by the kernel: a test that is killed leaves no server.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program.as_str(), &format!("-logdir={root}"), "server"]);
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20", "-master.volumeSizeLimitMB=256"]);
        command.arg(format!("-filer.localSocket={root}/filer.sock")).arg(format!("-s3.localSocket={root}/s3.sock"));
        command.arg(format!("-dir={root}/data")).arg(format!("-s3.config={config}"));
        let (mut ports, mut sockets) = (Vec::new(), Vec::new());
        for role in ROLES {
            for option in ["port", "port.grpc"] {
                let lease = PortLease::any(role).unwrap();
                command.arg(format!("-{role}.{option}={}", lease.port()));
                sockets.push(format!("/tmp/seaweedfs-{role}-grpc-{}.sock", lease.port()).into());
                ports.push(lease);
            }
        }
        let endpoint = format!("127.0.0.1:{}", ports[6].port());
        let log = File::create(root.join("log")).unwrap();
        command.current_dir(&root).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let at = |role: usize| format!("127.0.0.1:{}.{}", ports[role * 2].port(), ports[role * 2 + 1].port());
        let shell = format!(
            "echo s3.bucket.create -name {bucket} | {program} -logdir={root} shell -master={} -filer={}",
            at(0),
            at(2)
        );
        let server = ObjectServer { child, sockets, endpoint, _ports: ports, _folder: folder };
        // A bucket is there when it can be listed: that there is no repository in it is an answer.
        let ready = wait::until("the server of objects", DEADLINE, || async {
            let made = Command::new("sh").args(["-c", &shell]).output().unwrap();
            let said = server.said(&format!("backup list --repository {}", server.address(bucket)));
            Ok::<_, std::convert::Infallible>(match said.err.contains("nothing is there") {
                true => Poll::Ready(()),
                false => Poll::NotYet(format!("{}{}", said.err, String::from_utf8_lossy(&made.stdout))),
            })
        });
        ready.await.unwrap();
        server
    }

    /// An address in a bucket of this name.
    pub(super) fn address(&self, bucket: &str) -> Utf8PathBuf {
        format!("s3+http://{}/{bucket}/repository", self.endpoint).into()
    }

    /// What a process has to be given to ask this server.
    pub(super) fn environment(&self) -> [(&'static str, &'static str); 3] {
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")]
    }

    /// What the program says that asks this server.
    pub(super) fn said(&self, line: &str) -> Said {
        self.said_with(line, &[])
    }

    pub(super) fn said_with(&self, line: &str, more: &[(&str, &str)]) -> Said {
        let environment = self.environment();
        let all: Vec<(&str, &str)> = environment.iter().chain(more).copied().collect();
        let said = cdc_drill_with(line, &all);
        assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET), "{line}: a secret in\n{}", said.err);
        said
    }

    pub(super) fn expect(&self, exit: i32, line: &str, part: &str) -> Said {
        let said = self.said(line);
        assert_eq!(said.exit, exit, "{line}\n{}{}", said.err, said.out);
        assert!(said.err.contains(part), "{line}: no `{part}` in\n{}", said.err);
        said
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.sockets.iter().for_each(|socket| _ = std::fs::remove_file(socket));
    }
}

/// A stack whose repository is at this address, with the records of its recoveries in a folder.
pub(super) async fn stack_with(server: &ObjectServer, root: &Utf8Path, address: &Utf8Path) -> Stack {
    let mut stack = Stack::beside_lent(root.join("stack"));
    server.expect(0, &format!("backup init --repository {address}"), "is a backup repository");
    let text = std::fs::read_to_string(stack.file()).unwrap();
    let folder = stack.config.repository.path.clone();
    let text = text.replace(folder.as_str(), address.as_str());
    assert!(text.contains(address.as_str()), "{text}");
    let records = root.join("recoveries");
    std::fs::write(stack.file(), format!("{text}\n[recovery]\nfolder = \"{records}\"\n")).unwrap();
    stack.config = Config::load(&stack.file()).unwrap();
    // Servers have an environment of their own; what is secret stands in a file that their account alone reads.
    let secrets = stack.config.postgres.pgdata.with_file_name("object-server.env");
    let lines = server.environment().map(|(name, value)| format!("export {name}={value}\n")).concat();
    std::fs::write(&secrets, lines).unwrap();
    let owner = std::fs::metadata(&stack.config.postgres.pgdata).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    std::os::unix::fs::chown(&secrets, Some(uid), Some(gid)).unwrap();
    std::fs::set_permissions(&secrets, PermissionsExt::from_mode(0o600)).unwrap();
    let sql = stack.sql("postgres").await;
    let command = sql.text("show archive_command").await.unwrap().unwrap();
    let command = command.replace(folder.as_str(), address.as_str()).replace('\'', "''");
    sql.run(&format!("alter system set archive_command = '. {secrets}; {command}'")).await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
    stack
}
