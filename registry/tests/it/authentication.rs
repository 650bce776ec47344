//! Basic, bearer, identity tokens, logins.

use crate::fixture::{Memory, copy_all, options, reference};
use registry::auth::FixedKeychain;
use registry::testing::{Auth, FaultKind, Server, ServerOptions};
use registry::transport::{RemoteDestination, RemoteSource};
use registry::{Client, ClientOptions, Credentials, Secret};
use std::sync::Arc;

fn bearer() -> Server {
    let auth = Auth::Bearer {
        username: "u".into(),
        password: "p".into(),
        refresh_token: "refresh".into(),
        anonymous_pull: true,
    };
    Server::start(ServerOptions { auth, ..Default::default() }).unwrap()
}

fn basic() -> Server {
    let auth = Auth::Basic { username: "u".into(), password: "p".into() };
    Server::start(ServerOptions { auth, ..Default::default() }).unwrap()
}

fn client_with(server: &Server, credentials: Credentials) -> Client {
    let keychain = Arc::new(FixedKeychain(credentials));
    Client::new(ClientOptions { keychain, ..options(&server.address()) })
}

#[test]
fn basic_credentials_push_and_pull() {
    let server = basic();
    let name = reference(&server, "app:v1");
    let client = client_with(&server, Credentials::basic("u", "p"));
    copy_all(&Memory::small(), &RemoteDestination::new(&client, &name)).unwrap();
    copy_all(&RemoteSource::new(&client, &name).unwrap(), &Memory::default()).unwrap();
    let wrong = client_with(&server, Credentials::basic("u", "wrong")).manifest(&name).unwrap_err();
    assert!(wrong.is_unauthorized(), "{wrong}");
    assert!(!format!("{wrong:?}").contains("wrong\""));
    assert!(Client::new(options(&server.address())).manifest(&name).unwrap_err().is_unauthorized());
}

#[test]
fn bearer_tokens_by_password_and_by_identity_token() {
    for credentials in [Credentials::basic("u", "p"), Credentials::IdentityToken(Secret::new("refresh"))] {
        let server = bearer();
        let name = reference(&server, "ns/app:v1");
        let client = client_with(&server, credentials);
        copy_all(&Memory::small(), &RemoteDestination::new(&client, &name)).unwrap();
        let tokens = server.requests().iter().filter(|seen| seen.target.starts_with("/token")).count();
        assert_eq!(tokens, 1, "one token serves the whole push");
        copy_all(&RemoteSource::new(&client, &name).unwrap(), &Memory::default()).unwrap();
    }
}

#[test]
fn anonymous_tokens_pull_but_do_not_push() {
    let server = bearer();
    Memory::small().serve(&server, "ns/app", "v1");
    let client = Client::new(options(&server.address()));
    let name = reference(&server, "ns/app:v1");
    copy_all(&RemoteSource::new(&client, &name).unwrap(), &Memory::default()).unwrap();
    let to = RemoteDestination::new(&client, &reference(&server, "ns/other:v1"));
    assert!(copy_all(&Memory::small(), &to).unwrap_err().is_unauthorized());
}

#[test]
fn mounting_asks_for_both_scopes() {
    let server = bearer();
    Memory::small().serve(&server, "base/app", "v1");
    let client = client_with(&server, Credentials::basic("u", "p"));
    let from = RemoteSource::new(&client, &reference(&server, "base/app:v1")).unwrap();
    let report =
        copy_all(&from, &RemoteDestination::new(&client, &reference(&server, "new/app:v1"))).unwrap();
    assert_eq!(report.mounted, 4);
    assert!(server.requests().iter().any(|seen| {
        seen.target.starts_with("/token")
            && seen.target.contains("repository%3Anew%2Fapp%3Apull%2Cpush")
            && seen.target.contains("repository%3Abase%2Fapp%3Apull")
    }));
}

#[test]
fn an_expired_token_is_replaced_once() {
    let server = bearer();
    Memory::small().serve(&server, "ns/app", "v1");
    let client = client_with(&server, Credentials::basic("u", "p"));
    let name = reference(&server, "ns/app:v1");
    client.manifest(&name).unwrap();
    server.forget_tokens();
    client.manifest(&name).unwrap();
    assert_eq!(server.requests().iter().filter(|seen| seen.target.starts_with("/token")).count(), 2);
}

#[test]
fn logins_are_checked() {
    for server in [basic(), bearer()] {
        let client = Client::new(options(&server.address()));
        client.check_login(&server.address(), &Credentials::basic("u", "p")).unwrap();
        let error = client.check_login(&server.address(), &Credentials::basic("u", "no")).unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
    }
    let open = Server::start(ServerOptions::default()).unwrap();
    let client = Client::new(options(&open.address()));
    client.check_login(&open.address(), &Credentials::basic("any", "thing")).unwrap();
}

#[test]
fn a_token_service_that_fails_is_asked_again() {
    let server = bearer();
    Memory::small().serve(&server, "ns/app", "v1");
    server.fault("GET", "/token", FaultKind::Status(503, None), 2);
    let client = client_with(&server, Credentials::basic("u", "p"));
    client.manifest(&reference(&server, "ns/app:v1")).unwrap();
}
