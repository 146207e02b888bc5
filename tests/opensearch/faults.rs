//! Connections, credentials and what stands between us and the cluster. Where a fault must be forced, a socket gives the
//! answers.

use crate::{Corner, config, install_tls_provider, login, server_url};
use pg2os::{
    config::{Credential, OpenSearch},
    sink::{Answer, Class, Client, SinkError},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// A server that gives these answers, one a connection, then none. Its URL, and the requests it got.
fn answers(texts: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    thread::spawn(move || {
        for text in texts {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 1 << 16];
            let length = stream.read(&mut request).unwrap();
            seen.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn answer(status: u16, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

const ROOT: &str = r#"{"cluster_name":"c","version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#;

fn client(url: &str) -> Client {
    install_tls_provider();
    Client::new(&config(&[url])).unwrap()
}

async fn bulk(client: &Client) -> Answer {
    client.bulk("{}\n".into(), 1, |_| false, false).await
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let corner = Corner::new("info");
    let info = corner.client.info().await.unwrap();
    assert!(info.version.starts_with(['2', '3']), "{info:?}");
    let elastic = r#"{"cluster_name":"c","version":{"number":"8.1.0"},"tagline":"You Know, for Search"}"#;
    let (url, _) =
        answers(vec![answer(200, "application/json", elastic), answer(200, "application/json", ROOT)]);
    let client = client(&url);
    let error = client.info().await.unwrap_err();
    assert!(error.to_string().contains("is Elasticsearch 8.1.0") && error.class() == Class::Fatal, "{error}");
    assert_eq!(client.info().await.unwrap().version, "7.10.2");
}

#[tokio::test]
async fn the_next_node_is_taken_when_one_cannot_be_reached() {
    install_tls_provider();
    let real = server_url();
    let dead = "http://127.0.0.1:1";
    let client = Client::new(&config(&[dead, dead, &real])).unwrap();
    client.info().await.unwrap();
    let error = Client::new(&config(&[dead, dead])).unwrap().info().await.unwrap_err();
    assert!(matches!(error, SinkError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
    // It was certainly not sent.
    let answer = bulk(&Client::new(&config(&[dead])).unwrap()).await;
    assert!(matches!(answer, Answer::Busy(_)), "{answer:?}");
    let error = client_of_unknown_host().info().await.unwrap_err();
    assert!(matches!(error, SinkError::Unreachable { .. }), "{error:?}");
}

fn client_of_unknown_host() -> Client {
    client("http://no-such-host.invalid:9200")
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_open() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errors\":fal".to_owned();
    let (url, requests) = answers(vec![String::new(), cut]);
    let client = client(&url);
    for _ in 0..2 {
        let answer = bulk(&client).await;
        assert!(matches!(answer, Answer::Cut(_)), "{answer:?}");
    }
    // One request each: it is never repeated here.
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_stands_before_the_cluster_is_told_from_it() {
    let html = "<html>\n<body>Welcome</body></html>";
    for (status, expected) in [
        (200, "Unknown"),
        (302, "Credentials"),
        (400, "Credentials"),
        (404, "Credentials"),
        (413, "TooLarge"),
        (429, "Overloaded"),
        (502, "Cut"),
        (503, "Busy"),
        (504, "Unknown"),
    ] {
        let page = answer(status, "text/html", html);
        let (url, _) = answers(vec![page.clone(), page]);
        let client = client(&url);
        let found = format!("{:?}", bulk(&client).await);
        assert!(found.starts_with(expected), "{status}: {found}");
        let error = client.info().await.unwrap_err();
        assert!(error.to_string().contains("Welcome"), "{status}: {error}");
        assert_eq!(error.class(), Class::Transient, "{status}: {error}");
    }
}

#[tokio::test]
async fn tls_to_a_plain_port_is_told_with_its_cure() {
    let url = server_url().replace("http://", "https://");
    let error = client(&url).info().await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    // The other way about, the port closes the connection without an answer.
    let (url, _) = answers(vec![String::new()]);
    let error = client(&url).info().await.unwrap_err();
    assert!(error.to_string().contains("write https://"), "{error}");
}

#[tokio::test]
async fn rotated_credentials_are_read_again() {
    let file = std::env::temp_dir().join(format!("pg2os-password-{}", std::process::id()));
    std::fs::write(&file, "old\n").unwrap();
    let refused = answer(401, "text/plain", "Unauthorized");
    let (url, requests) =
        answers(vec![refused.clone(), refused.clone(), answer(200, "application/json", ROOT), refused]);
    install_tls_provider();
    let config = OpenSearch { urls: vec![url], ..login("u", Credential::File(file.clone())) };
    let client = Client::new(&config).unwrap();
    let error = client.info().await.unwrap_err();
    assert!(
        matches!(error, SinkError::Unauthorized { .. }) && error.class() == Class::Transient,
        "{error:?}"
    );
    std::fs::write(&file, "new\n").unwrap();
    client.info().await.unwrap();
    let answer = bulk(&client).await;
    assert!(matches!(&answer, Answer::Credentials(reason) if reason.contains("401")), "{answer:?}");
    let requests = requests.lock().unwrap();
    // base64 of u:old and u:new
    for (request, token) in requests.iter().zip(["dTpvbGQ=", "dTpvbGQ=", "dTpuZXc=", "dTpuZXc="]) {
        assert!(request.contains(&format!("Basic {token}")), "{request}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = Client::new(&config).err().unwrap();
    assert!(
        error.to_string().starts_with("opensearch.password: ") && error.class() == Class::Fatal,
        "{error}"
    );
}

#[tokio::test]
async fn a_proxy_is_used_only_where_it_is_configured() {
    install_tls_provider();
    let (proxy, requests) = answers(vec![answer(200, "application/json", ROOT)]);
    let config = OpenSearch { proxy: Some(proxy), ..config(&["http://opensearch.invalid:9200"]) };
    Client::new(&config).unwrap().info().await.unwrap();
    assert!(requests.lock().unwrap()[0].starts_with("GET http://opensearch.invalid:9200/ "));
}

#[test]
fn urls_that_cannot_be_dialled_are_configuration_errors() {
    install_tls_provider();
    for url in ["", "localhost:9200", "ftp://h", "http://u:p@h:9200", "http://"] {
        let error = Client::new(&config(&[url])).err().unwrap();
        assert!(
            error.to_string().contains("opensearch.url") && error.class() == Class::Fatal,
            "{url}: {error}"
        );
    }
    assert!(Client::new(&config(&[])).is_err());
}
