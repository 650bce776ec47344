//! `pull`, `push`, `login`, `logout`.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use engine::entry::{self, Needs};
use engine::images::{PullPolicy, PullRequest, PushRequest, RegistryOptions, SearchRequest};
use engine::login::{LoginRequest, LogoutRequest};
use engine::{Engine, EngineOptions};

use super::create::platform;
use crate::args::{LoginArgs, LogoutArgs, PullArgs, PushArgs, RegistryArgs};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, progress};

/// Most bytes of a password.
const PASSWORD_LIMIT: u64 = 1 << 16;

pub(super) fn retry_delay(text: Option<&String>) -> Result<Option<Duration>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| Failure::new(format!("--retry-delay={text}: expected a duration such as 2s")))?;
    Duration::try_from(span).map(Some).attempt(format!("--retry-delay={text}"))
}

/// How the registry of a command is reached.
pub(super) fn options(args: RegistryArgs) -> Result<RegistryOptions, Failure> {
    Ok(RegistryOptions {
        tls_verify: args.tls_verify,
        credentials: args.creds.map(complete_credentials).transpose()?,
        authfile: args.authfile,
        cert_dir: args.cert_dir,
        ..RegistryOptions::default()
    })
}

/// `davit pull`
pub(crate) fn pull(engine: &Engine, args: PullArgs) -> Outcome {
    let registry = RegistryOptions {
        retry: Some(args.retry),
        retry_delay: retry_delay(args.retry_delay.as_ref())?,
        signature_policy: args.trust.signature_policy,
        ..options(args.registry)?
    };
    let policy = args.policy.parse::<PullPolicy>()?;
    let platform =
        platform(args.platform.as_ref(), args.os.as_ref(), args.arch.as_ref(), args.variant.as_ref());
    let mut code = 0;
    let mut references = args.images;
    if args.all_tags {
        let mut tagged = Vec::new();
        for repository in references {
            let tags = SearchRequest {
                term: repository,
                list_tags: true,
                limit: usize::MAX,
                registry: registry.clone(),
                ..SearchRequest::default()
            };
            let hits = engine.images().search(&tags)?.0;
            tagged.extend(hits.into_iter().map(|hit| format!("{}:{}", hit.name, hit.tag)));
        }
        references = tagged;
    }
    for reference in references {
        let request =
            PullRequest { reference, policy, platform: platform.clone(), registry: registry.clone() };
        let progress = progress::Transfer::new(args.quiet);
        let result = engine.images().pull(&request, &|event| progress.event(&event));
        progress.finish();
        match result {
            Ok(report) => {
                for warning in report.warnings {
                    output::note(&format!("Warning: {warning}"));
                }
                output::line(&report.id);
            }
            Err(error) => {
                code = FAILED;
                Failure::from(error).print();
            }
        }
    }
    Ok(code)
}

/// `davit push`
pub(crate) fn push(engine: &Engine, args: PushArgs) -> Outcome {
    let request = PushRequest {
        image: args.image,
        destination: args.destination,
        registry: RegistryOptions {
            retry: Some(args.retry),
            retry_delay: retry_delay(args.retry_delay.as_ref())?,
            signature_policy: args.trust.signature_policy,
            ..options(args.registry)?
        },
        compression: args.compression_format,
        format: args.format.as_deref().map(super::manifest::image_format).transpose()?,
        sign: super::trust::signers(args.sign),
    };
    send(engine, &request, args.quiet, args.digestfile.as_deref())
}

/// Sends an image or a list, and tells of it.
pub(super) fn send(
    engine: &Engine,
    request: &PushRequest,
    quiet: bool,
    digestfile: Option<&Path>,
) -> Outcome {
    let progress = progress::Transfer::new(quiet);
    let result = engine.images().push(request, &|event| progress.event(&event));
    progress.finish();
    let report = result?;
    for warning in report.warnings {
        output::note(&format!("Warning: {warning}"));
    }
    if let Some(path) = digestfile {
        std::fs::write(path, &report.digest).attempt(format!("write {}", path.display()))?;
    }
    Ok(0)
}

/// Asks for the password that `USER` lacks, where someone can answer.
fn complete_credentials(credentials: String) -> Result<String, Failure> {
    if credentials.contains(':') || !std::io::stdin().is_terminal() {
        return Ok(credentials);
    }
    Ok(format!("{credentials}:{}", ask("Password: ", false)?))
}

/// Asks on the terminal; `echo` shows what is typed.
pub(super) fn ask(prompt: &str, echo: bool) -> Result<String, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::new("standard input is not a terminal").hint("use --username and --password-stdin")
        );
    }
    let attempt = "ask on the terminal";
    let mut stderr = std::io::stderr();
    write!(stderr, "{prompt}").and_then(|()| stderr.flush()).attempt(attempt)?;
    let before = tcgetattr(&stdin).attempt(attempt)?;
    if !echo {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).attempt(attempt)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if !echo {
        tcsetattr(&stdin, OptionalActions::Flush, &before).attempt(attempt)?;
        output::note("");
    }
    read.attempt(attempt)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Credentials live outside the store: no namespace is entered.
fn open(options: EngineOptions) -> Result<Engine, Failure> {
    Ok(Engine::open(options, entry::enter(Needs::Nothing)?)?)
}

fn registry_name(name: Option<String>) -> String {
    name.unwrap_or_else(|| "docker.io".to_owned())
}

/// `davit login`
pub(crate) fn login(options: EngineOptions, args: LoginArgs) -> Outcome {
    let engine = open(options)?;
    let registry = registry_name(args.registry);
    let options = RegistryOptions {
        tls_verify: args.tls_verify,
        authfile: args.authfile,
        cert_dir: args.cert_dir,
        ..RegistryOptions::default()
    };
    let present = engine.logged_in(&registry, &options)?;
    if args.get_login {
        let user = present.ok_or_else(|| Failure::new(format!("not logged into {registry}")))?;
        output::line(&user);
        return Ok(0);
    }
    let username = match args.username {
        Some(username) => username,
        None if args.password_stdin => return Err(Failure::new("--password-stdin needs --username")),
        None => {
            let shown = present.as_ref().map_or_else(String::new, |user| format!(" ({user})"));
            let typed = ask(&format!("Username{shown}: "), true)?;
            if typed.is_empty() { present.unwrap_or_default() } else { typed }
        }
    };
    let password = if args.password_stdin {
        let mut password = String::new();
        std::io::stdin().take(PASSWORD_LIMIT).read_to_string(&mut password).attempt("read the password")?;
        password.trim_end_matches(['\n', '\r']).to_owned()
    } else {
        match args.password {
            Some(password) => password,
            None => ask("Password: ", false)?,
        }
    };
    let request =
        LoginRequest { registry, username, password, options, compat_auth_file: args.compat_auth_file };
    let place = engine.login(&request)?;
    output::line("Login Succeeded!");
    if args.verbose {
        output::note(&format!("The credentials are kept in {}", place.display()));
    }
    Ok(0)
}

/// `davit logout`
pub(crate) fn logout(options: EngineOptions, args: LogoutArgs) -> Outcome {
    let engine = open(options)?;
    let request = LogoutRequest {
        registry: args.registry,
        all: args.all,
        authfile: args.authfile,
        compat_auth_file: args.compat_auth_file,
    };
    let forgotten = engine.logout(&request)?;
    if args.all {
        output::line("Removed login credentials for all registries");
    } else {
        for registry in forgotten {
            output::line(&format!("Removed login credentials for {registry}"));
        }
    }
    Ok(0)
}
