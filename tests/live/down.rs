//! A system that is down is named once, by its own name, before anything else is tried.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8PathBuf;

use super::{
    attach::{Stack, expect},
    captured::connect,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_down_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stack = Stack::up(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap(), "--registry h2");
    stack.pipeline("shop").await;
    let (file, dir) = (stack.file(), &stack.dir);
    expect(0, &format!("backup create --config {file}"), "");
    let commands = |what: &str| {
        expect(13, &format!("recover run slot --yes --config {file}"), what);
        expect(13, &format!("recover run coordinated --yes --config {file}"), what);
        let said = expect(13, &format!("backup create --config {file}"), what);
        assert!(!said.err.contains("postgres"), "asked before the base backup, which takes long:\n{}", said.err);
        expect(10, &format!("verify --deadline 5s --config {file}"), what.split_whitespace().next().unwrap())
    };

    // The server is not down: the address is another one. Nothing is stopped for that.
    let text = std::fs::read_to_string(&file).unwrap();
    let port = text.split_once("@127.0.0.1:").and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
    for wrong in ["127.0.0.1:1", "no-such-host.invalid:5432"] {
        let elsewhere = stack.dir.join("elsewhere.toml");
        std::fs::copy(&file, &elsewhere).unwrap();
        std::fs::write(&elsewhere, text.replace(&format!("127.0.0.1:{port}/"), &format!("{wrong}/"))).unwrap();
        for command in ["plan coordinated", "run coordinated --yes"] {
            expect(40, &format!("recover {command} --config {elsewhere}"), "while that server answers at");
        }
        assert!(connect(&stack).status("shop").await.unwrap().all_running());
    }

    expect(0, &format!("stack stop registry --dir {dir}"), "");
    let said = commands("registry at");
    assert!(
        said.err.lines().filter(|line| line.contains("registry")).count() < 5,
        "once, and not for each record:\n{}",
        said.err
    );
    expect(0, &format!("stack start registry --dir {dir}"), "");

    expect(0, &format!("stack stop kafka --dir {dir}"), "");
    commands("kafka at");
}
