//! The manifests in `k8s/`: what they are built to is valid, strictly, and agrees with what the program does.

#![allow(clippy::unwrap_used)]

use pg2os::cli::exit::Exit;
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The output of a script in this folder, which must succeed.
fn script(name: &str, arguments: &[&str]) -> String {
    let path = root().join("tests/k8s").join(name);
    let output = Command::new(&path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn built(overlay: &str) -> String {
    script("build.sh", &[root().join("k8s/overlays").join(overlay).to_str().unwrap()])
}

/// What the validator says about manifests; nothing where they are valid.
fn complaints(manifests: &str) -> String {
    let tools = script("get.sh", &[]);
    let mut validator = Command::new("python3")
        .arg(root().join("tests/k8s/validate.py"))
        .arg(tools.trim())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    validator.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let output = validator.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

fn overlays() -> Vec<String> {
    let folders = fs::read_dir(root().join("k8s/overlays")).unwrap();
    folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_overlay_is_valid() {
    let overlays = overlays();
    assert!(overlays.len() >= 5, "{overlays:?}");
    for overlay in overlays {
        let said = complaints(&built(&overlay));
        assert!(said.is_empty(), "{overlay}: {said}");
    }
}

#[test]
fn a_slip_is_refused() {
    let table = [
        ("stream", "replicas: 1", "replicas: one", "replicas"),
        ("stream", "replicas: 1", "replica: 1", "replica"),
        ("stream", "apiVersion: apps/v1", "apiVersion: apps/v1beta1", "no schema"),
        ("stream", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"),
        ("stream", "memory: 128Mi", "memory: 1Gi", "memory limit"),
        ("backfill", "restartPolicy: Never", "restartPolicies: Never", "restartPolicies"),
        ("backfill", "- backfill", "- backfill\n        command:\n        - sh", "a shell"),
        ("zalando", "apiVersion: acid.zalan.do/v1", "apiVersion: acid.zalan.do/v2", "no schema"),
        ("zalando", "numberOfInstances: 3", "instances: 3", "instances"),
        ("zalando", "type: logical", "type: 7", "slots"),
    ];
    for (overlay, right, wrong, complaint) in table {
        let manifests = built(overlay);
        assert!(manifests.contains(right), "{overlay} has no `{right}`");
        let said = complaints(&manifests.replacen(right, wrong, 1));
        assert!(said.contains(complaint), "{overlay}, {wrong}: {said}");
    }
    assert!(complaints("").contains("nothing to check"));
}

#[test]
fn the_configuration_is_accepted_and_names_what_the_cluster_has() {
    let output = Command::new(env!("CARGO_BIN_EXE_pg2os"))
        .env_clear()
        .args(["config", "--config"])
        .arg(root().join("k8s/base/config.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let effective = String::from_utf8(output.stdout).unwrap();
    let cluster = built("zalando");
    for name in ["pg2os_analytics", "pg2os_analytics_bookmark"] {
        assert!(effective.contains(name), "{effective}");
        assert!(cluster.contains(&format!(
            "\n      {name}:\n        database: datawarehouse\n        plugin: pgoutput"
        )));
    }
    let secret = "pg2os.analytics-cluster.credentials.postgresql.acid.zalan.do";
    assert!(effective.contains("analytics-cluster") && cluster.contains("name: analytics-cluster"));
    assert!(cluster.contains("\n    pg2os:\n    - replication\n"), "{cluster}");
    for overlay in ["stream", "hot-standby", "backfill", "nightly"] {
        assert!(built(overlay).contains(&format!("secretName: {secret}")), "{overlay}");
    }
}

#[test]
fn jobs_are_not_repeated_where_a_retry_cannot_help() {
    for overlay in ["backfill", "nightly"] {
        let words = built(overlay).split_whitespace().collect::<Vec<_>>().join(" ");
        let rule = |action: &str, codes: &[Exit]| {
            let codes: Vec<_> = codes.iter().map(|exit| format!("- {}", exit.code())).collect();
            let rule = format!(
                "- action: {action} onExitCodes: containerName: pg2os operator: In values: {}",
                codes.join(" ")
            );
            assert!(words.contains(&rule), "{overlay} lacks {rule}: {words}");
        };
        rule("FailJob", &[Exit::Usage, Exit::No, Exit::Gap]);
        rule("Ignore", &[Exit::Interrupted(2), Exit::Interrupted(15)]);
    }
}
