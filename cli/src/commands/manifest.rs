//! `manifest`.

use engine::Engine;
use engine::images::{ListAddRequest, ListCreateRequest, RegistryOptions};

use super::create::{pairs, platform};
use super::registry;
use crate::args::{
    ManifestAddArgs, ManifestCommand, ManifestCreateArgs, ManifestNameArgs, ManifestPushArgs, PushArgs,
};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, progress};

/// `davit manifest …`
pub(crate) fn manifest(engine: &Engine, command: ManifestCommand) -> Outcome {
    match command {
        ManifestCommand::Add(args) => add(engine, args),
        ManifestCommand::Create(args) => create(engine, args),
        ManifestCommand::Exists(args) => Ok(u8::from(!engine.images().list_exists(&args.list)?)),
        ManifestCommand::Inspect(args) => inspect(engine, &args),
        ManifestCommand::Push(args) => push(engine, args),
        ManifestCommand::Rm(args) => {
            let mut code = 0;
            for list in &args.lists {
                match engine.images().list_remove(list) {
                    Ok(name) => output::line(&format!("Untagged: {name}")),
                    Err(error) => {
                        code = FAILED;
                        Failure::from(error).print();
                    }
                }
            }
            Ok(code)
        }
    }
}

fn create(engine: &Engine, args: ManifestCreateArgs) -> Outcome {
    let request = ListCreateRequest {
        name: args.list,
        images: args.images,
        annotations: pairs(&args.annotation).into_iter().collect(),
        amend: args.amend,
    };
    output::line(&engine.images().list_create(&request)?);
    Ok(0)
}

fn add(engine: &Engine, args: ManifestAddArgs) -> Outcome {
    let registry = RegistryOptions {
        tls_verify: args.tls_verify,
        credentials: args.creds,
        authfile: args.authfile,
        cert_dir: args.cert_dir,
        ..RegistryOptions::default()
    };
    let platform = platform(None, args.os.as_ref(), args.arch.as_ref(), args.variant.as_ref());
    let mut name = String::new();
    for image in args.images {
        let request = ListAddRequest {
            list: args.list.clone(),
            image,
            platform: platform.clone(),
            annotations: pairs(&args.annotation).into_iter().collect(),
            registry: registry.clone(),
        };
        let progress = progress::Transfer::new(false);
        let added = engine.images().list_add(&request, &|event| progress.event(&event));
        progress.finish();
        name = added?;
    }
    output::line(&name);
    Ok(0)
}

fn inspect(engine: &Engine, args: &ManifestNameArgs) -> Outcome {
    let text = engine.images().list_inspect(&args.list)?;
    let value: serde_json::Value = serde_json::from_str(&text).attempt("read the index")?;
    output::line(&serde_json::to_string_pretty(&value).attempt("print the index")?);
    Ok(0)
}

fn push(engine: &Engine, args: ManifestPushArgs) -> Outcome {
    debug_assert!(args.all, "the parser accepts nothing else");
    if !engine.images().list_exists(&args.list)? {
        return Err(Failure::new(format!("no such manifest list: {}", args.list)));
    }
    let push = PushArgs {
        authfile: args.authfile,
        cert_dir: args.cert_dir,
        creds: args.creds,
        compression_format: None,
        digestfile: args.digestfile,
        disable_content_trust: false,
        quiet: args.quiet,
        retry: 3,
        retry_delay: None,
        tls_verify: args.tls_verify,
        image: args.list.clone(),
        destination: args.destination,
    };
    let code = registry::push(engine, push)?;
    if args.rm {
        engine.images().list_remove(&args.list)?;
    }
    Ok(code)
}
