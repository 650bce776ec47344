//! `auth.json` and Docker's `config.json`: searching, and changing them atomically.

use super::{Credentials, Helper, Keychain, Secret, normalize_key};
use crate::{Error, Reference, Result, files};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Most bytes that a credential file may have.
const MAX_FILE: u64 = 16 << 20;

/// A credential file to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFile {
    /// Where it is; it need not exist.
    pub path: PathBuf,
    /// Whether it has the old layout of `.dockercfg`, without the level `auths`.
    pub legacy: bool,
}

impl AuthFile {
    /// A file of the current layout.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), legacy: false }
    }
}

/// Searches files in order, then helpers; the first hit wins.
#[derive(Debug, Clone, Default)]
pub struct FileKeychain {
    files: Vec<AuthFile>,
    helpers: Vec<String>,
}

impl FileKeychain {
    /// The files in order of preference. `helpers` are the `credential-helpers` of `registries.conf`, in order; the
    /// entry `containers-auth.json` stands for the files, and no helpers mean the files alone.
    pub fn new(files: Vec<AuthFile>, helpers: Vec<String>) -> Self {
        Self { files, helpers }
    }

    fn search_files(&self, keys: &[String]) -> Result<Option<Credentials>> {
        for file in &self.files {
            if let Some(found) = search_file(file, keys)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The credentials stored for a registry or `registry/namespace`, as `login --get-login` asks for them.
    pub fn lookup(&self, key: &str) -> Result<Option<Credentials>> {
        let keys = parents(&normalize_key(key));
        if self.helpers.is_empty() {
            return self.search_files(&keys);
        }
        for helper in &self.helpers {
            let found = if helper == "containers-auth.json" {
                self.search_files(&keys)?
            } else {
                let host = keys.last().map_or("", String::as_str);
                Helper::new(helper)?.get(server_name(host))?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Keychain for FileKeychain {
    fn credentials(&self, reference: &Reference) -> Result<Option<Credentials>> {
        self.lookup(&reference.name())
    }
}

/// The key and its parents, most specific first, the host last.
fn parents(key: &str) -> Vec<String> {
    let mut keys = vec![key.to_owned()];
    let mut rest = key;
    while let Some((parent, _)) = rest.rsplit_once('/') {
        keys.push(parent.to_owned());
        rest = parent;
    }
    keys
}

/// Docker's helpers keep the hub under its old index address.
fn server_name(host: &str) -> &str {
    if host == crate::reference::HUB { "https://index.docker.io/v1/" } else { host }
}

fn invalid(path: &Path, message: impl Into<String>) -> Error {
    Error::Config { path: path.display().to_string(), message: message.into() }
}

fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = files::read_optional(path, MAX_FILE)? else { return Ok(None) };
    parse_object(&bytes, path).map(Some)
}

fn parse_object(bytes: &[u8], path: &Path) -> Result<Map<String, Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid(path, "not a JSON object")),
        // the parser's message may quote the file, which holds secrets: only the place is told
        Err(error) => {
            Err(invalid(path, format!("not valid JSON at line {} column {}", error.line(), error.column())))
        }
    }
}

/// What a file says about a key.
enum Found<'a> {
    Credentials(Credentials),
    /// A helper has them, or not.
    Helper(&'a str),
    Nothing,
}

fn search_file(file: &AuthFile, keys: &[String]) -> Result<Option<Credentials>> {
    let Some(object) = read_object(&file.path)? else { return Ok(None) };
    match search_object(&object, file, keys)? {
        Found::Credentials(found) => Ok(Some(found)),
        Found::Helper(name) => {
            let host = keys.last().map_or("", String::as_str);
            Helper::new(name)?.get(server_name(host))
        }
        Found::Nothing => Ok(None),
    }
}

fn search_object<'a>(object: &'a Map<String, Value>, file: &AuthFile, keys: &[String]) -> Result<Found<'a>> {
    let host = keys.last().map_or("", String::as_str);
    if !file.legacy {
        let helper_for = object.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.iter().find(|(key, _)| normalize_key(key) == host).and_then(|(_, name)| name.as_str())
        });
        if let Some(helper) = helper_for {
            return Ok(Found::Helper(helper));
        }
    }
    let auths = if file.legacy { Some(object) } else { object.get("auths").and_then(Value::as_object) };
    if let Some(auths) = auths {
        for key in keys {
            // the exact key first, then those that mean the same
            let entry = auths.get(key).or_else(|| {
                auths.iter().find(|(other, _)| normalize_key(other) == *key).map(|(_, entry)| entry)
            });
            if let Some(found) = entry.map(|entry| decode(entry, &file.path, key)).transpose()?.flatten() {
                return Ok(Found::Credentials(found));
            }
        }
    }
    match object.get("credsStore").and_then(Value::as_str).filter(|name| !file.legacy && !name.is_empty()) {
        Some(helper) => Ok(Found::Helper(helper)),
        None => Ok(Found::Nothing),
    }
}

/// What fuzzing promises of a credential file: an error quotes none of the secrets that the file has, and a helper is
/// no path. Helpers are not run.
pub(crate) fn promises_of_file(bytes: &[u8]) {
    let path = Path::new("auth.json");
    let object = match parse_object(bytes, path) {
        Ok(object) => object,
        Err(error) => return assert!(error.full_text().len() < 200, "{error}"),
    };
    let tables = [Some(&object), object.get("auths").and_then(Value::as_object)];
    let entries: Vec<_> = tables.into_iter().flatten().flatten().collect();
    let mut secrets = Vec::new();
    for name in ["auth", "password", "identitytoken", "registrytoken"] {
        let texts = entries.iter().filter_map(|(_, entry)| entry.get(name).and_then(Value::as_str));
        secrets.extend(texts.filter(|text| text.len() >= 8).map(str::to_owned));
    }
    for legacy in [false, true] {
        let file = AuthFile { path: path.into(), legacy };
        for key in entries.iter().map(|(key, _)| key.as_str()).chain(["docker.io/library/x", "r.example/a/b"])
        {
            let keys = parents(&normalize_key(key));
            let error = match search_object(&object, &file, &keys) {
                Ok(Found::Helper(name)) => match Helper::new(name) {
                    Ok(_) => {
                        assert!(!name.contains('/'), "a helper is a path");
                        continue;
                    }
                    Err(error) => error,
                },
                Ok(Found::Credentials(found)) => {
                    let shown = format!("{found:?}");
                    let own = "IdentityToken(***) RegistryToken(***)";
                    let told =
                        |secret: &&String| shown.contains(secret.as_str()) && !own.contains(secret.as_str());
                    let quoted = secrets.iter().find(told);
                    let user = match &found {
                        Credentials::Basic { username, .. } => username.as_str(),
                        _ => "",
                    };
                    assert!(quoted.is_none_or(|secret| user.contains(secret.as_str())), "{shown}");
                    continue;
                }
                Ok(Found::Nothing) => continue,
                Err(error) => error,
            };
            let (text, open) = (error.full_text(), format!("{keys:?} {object:?}"));
            // the same text may stand where nobody keeps a secret: in a key or in the name of a helper
            let quoted = |secret: &&String| {
                text.contains(secret.as_str()) && open.matches(secret.as_str()).count() == 1
            };
            assert_eq!(secrets.iter().find(quoted), None, "{text}");
        }
    }
}

fn decode(entry: &Value, path: &Path, key: &str) -> Result<Option<Credentials>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::RegistryToken(Secret::new(token))));
    }
    if let Some(auth) = text("auth") {
        let bad = || invalid(path, format!("the entry of {key} is not base64 of user:password"));
        let engine = base64::engine::general_purpose::STANDARD;
        let bytes = engine.decode(auth.trim()).map_err(|_| bad())?;
        let plain = String::from_utf8(bytes).map_err(|_| bad())?;
        let (username, password) = plain.split_once(':').ok_or_else(bad)?;
        // Docker pads with NUL
        return Ok(Some(Credentials::basic(username, password.trim_end_matches('\0'))));
    }
    match (text("username"), text("password")) {
        (Some(username), Some(password)) => Ok(Some(Credentials::basic(username, password))),
        _ => Ok(None),
    }
}

/// What [`list_logins`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLogin {
    /// The key: registry or `registry/namespace`.
    pub key: String,
    /// The user, where it is known.
    pub username: Option<String>,
}

/// Lists the entries of a credential file.
pub fn list_logins(path: &Path) -> Result<Vec<StoredLogin>> {
    let object = read_object(path)?.unwrap_or_default();
    let Some(auths) = object.get("auths").and_then(Value::as_object) else { return Ok(Vec::new()) };
    auths
        .iter()
        .map(|(key, entry)| {
            let username = match decode(entry, path, key)? {
                Some(Credentials::Basic { username, .. }) => Some(username),
                _ => None,
            };
            Ok(StoredLogin { key: key.clone(), username })
        })
        .collect()
}

/// Stores credentials under a key (registry, `registry/namespace/repo`, or an address for Docker's files). Where the
/// file names a helper for the registry, the helper stores them. The rest of the file stays as it is.
pub fn store_login(path: &Path, key: &str, credentials: &Credentials) -> Result<()> {
    change(path, |object| {
        if let Some(helper) = helper_of(object, key) {
            return Helper::new(&helper)?.store(server_name(&normalize_key(key)), credentials).map(|()| true);
        }
        let entry = match credentials {
            Credentials::Basic { username, password } => {
                if username.contains(':') {
                    return Err(Error::Unsupported("a user name with a colon cannot be stored"));
                }
                let plain = format!("{username}:{}", password.expose());
                serde_json::json!({ "auth": base64::engine::general_purpose::STANDARD.encode(plain) })
            }
            Credentials::IdentityToken(token) => serde_json::json!({ "identitytoken": token.expose() }),
            Credentials::RegistryToken(token) => serde_json::json!({ "registrytoken": token.expose() }),
        };
        let auths = object.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        let Some(auths) = auths.as_object_mut() else { return Err(invalid(path, "auths is not an object")) };
        auths.insert(key.to_owned(), entry);
        Ok(true)
    })
    .map(|_| ())
}

/// Removes the credentials of a key; false if there were none.
pub fn remove_login(path: &Path, key: &str) -> Result<bool> {
    change(path, |object| {
        if let Some(helper) = helper_of(object, key) {
            return Helper::new(&helper)?.erase(server_name(&normalize_key(key))).map(|()| true);
        }
        let Some(auths) = object.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(false) };
        let normal = normalize_key(key);
        let before = auths.len();
        auths.retain(|other, _| other != key && normalize_key(other) != normal);
        Ok(auths.len() < before)
    })
}

/// Removes all credentials of a file, helpers' entries included; gives the keys removed.
pub fn remove_all_logins(path: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    change(path, |object| {
        if let Some(helpers) = object.get("credHelpers").and_then(Value::as_object) {
            for (key, name) in helpers {
                if let Some(name) = name.as_str() {
                    Helper::new(name)?.erase(server_name(&normalize_key(key)))?;
                    removed.push(key.clone());
                }
            }
        }
        if let Some(auths) = object.get_mut("auths").and_then(Value::as_object_mut) {
            removed.extend(auths.keys().cloned());
            auths.clear();
        }
        Ok(!removed.is_empty())
    })?;
    Ok(removed)
}

fn helper_of(object: &Map<String, Value>, key: &str) -> Option<String> {
    let normal = normalize_key(key);
    let helpers = object.get("credHelpers")?.as_object()?;
    helpers.iter().find(|(other, _)| normalize_key(other) == normal)?.1.as_str().map(str::to_owned)
}

/// Reads, changes and replaces a file with mode 0600, under a lock file of its own so that no login is lost.
fn change(path: &Path, edit: impl FnOnce(&mut Map<String, Value>) -> Result<bool>) -> Result<bool> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(Error::file("create directory", parent))?;
    }
    // the user may have made the file a link to where it really lies
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut lock_name = path.file_name().unwrap_or_default().to_owned();
    lock_name.push(".lock");
    let lock_path = path.with_file_name(lock_name);
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(Error::file("open", &lock_path))?;
    lock.lock().map_err(Error::file("lock", &lock_path))?;
    let mut object = read_object(path)?.unwrap_or_default();
    let changed = edit(&mut object)?;
    if changed {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&object, &mut serializer)
            .map_err(|error| invalid(path, error.to_string()))?;
        files::write_atomic(path, &bytes, 0o600)?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn keychain(dir: &Path, text: &str) -> FileKeychain {
        let path = dir.join("auth.json");
        std::fs::write(&path, text).unwrap();
        FileKeychain::new(vec![AuthFile::new(dir.join("missing.json")), AuthFile::new(path)], Vec::new())
    }

    fn user(keychain: &FileKeychain, reference: &str) -> Option<String> {
        match keychain.credentials(&Reference::parse(reference).unwrap()).unwrap() {
            Some(Credentials::Basic { username, .. }) => Some(username),
            Some(other) => Some(format!("{other:?}")),
            None => None,
        }
    }

    #[test]
    fn the_most_specific_key_wins() {
        let dir = tempfile::tempdir().unwrap();
        // dTE6cA== is u1:p, dTI6cA== u2:p, dTM6cA== u3:p
        let keychain = keychain(
            dir.path(),
            r#"{"auths":{"r.example":{"auth":"dTE6cA=="},"r.example/ns":{"auth":"dTI6cA=="},"https://index.docker.io/v1/":{"auth":"dTM6cA=="},
               "empty.example":{},"token.example":{"identitytoken":"t"},"r.example:5000":{"username":"u4","password":"p"}}}"#,
        );
        assert_eq!(user(&keychain, "r.example/x").unwrap(), "u1");
        assert_eq!(user(&keychain, "r.example/ns/x:tag").unwrap(), "u2");
        assert_eq!(user(&keychain, "r.example/nsx/x").unwrap(), "u1");
        assert_eq!(user(&keychain, "docker.io/library/debian").unwrap(), "u3");
        assert_eq!(user(&keychain, "r.example:5000/x").unwrap(), "u4");
        assert_eq!(user(&keychain, "empty.example/x"), None);
        assert_eq!(user(&keychain, "other.example/x"), None);
        assert!(user(&keychain, "token.example/x").unwrap().starts_with("IdentityToken"));
    }

    #[test]
    fn bad_files_are_told_without_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let chain = keychain(dir.path(), r#"{"auths": geheim}"#);
        let text = chain.lookup("r.example").unwrap_err().full_text();
        assert!(text.contains("auth.json") && !text.contains("geheim"), "{text}");
        let chain = keychain(dir.path(), r#"{"auths":{"r.example":{"auth":"!!"}}}"#);
        assert!(chain.lookup("r.example").is_err());
    }

    #[test]
    fn logins_are_stored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/auth.json");
        store_login(&path, "r.example", &Credentials::basic("u", "p:q")).unwrap();
        store_login(&path, "docker.io", &Credentials::IdentityToken(Secret::new("t"))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let chain = FileKeychain::new(vec![AuthFile::new(&path)], vec!["containers-auth.json".into()]);
        assert_eq!(chain.lookup("r.example").unwrap(), Some(Credentials::basic("u", "p:q")));
        let logins = list_logins(&path).unwrap();
        assert_eq!(logins.len(), 2);
        assert!(remove_login(&path, "https://index.docker.io/v1/").unwrap());
        assert!(!remove_login(&path, "docker.io").unwrap());
        assert_eq!(remove_all_logins(&path).unwrap(), ["r.example"]);
        assert_eq!(list_logins(&path).unwrap(), []);
    }

    #[test]
    fn other_keys_of_the_file_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"detachKeys":"ctrl-x","auths":{"a":{"auth":"dTE6cA=="}}}"#).unwrap();
        store_login(&path, "b", &Credentials::basic("u", "p")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"detachKeys\": \"ctrl-x\"") && text.contains("\"a\""), "{text}");
    }

    #[test]
    fn parallel_logins_are_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    store_login(path, &format!("r{n}.example"), &Credentials::basic("u", "p")).unwrap()
                });
            }
        });
        assert_eq!(list_logins(&path).unwrap().len(), 8);
    }
}
