//! The commands: from arguments to requests, from reports to output. One file a group of verbs.

mod artifact;
mod build;
mod call;
mod changes;
mod containers;
mod copy;
mod create;
mod df;
mod events;
mod exec;
mod images;
mod inspect;
mod lists;
mod logs;
mod manifest;
mod mounting;
mod prune;
mod registry;
pub(crate) mod runtime;
mod search;
mod serve;
mod system;
mod tree;
mod trust;
mod usage;
mod volume;

use engine::entry::{self, Needs};
use engine::{Engine, EngineOptions};

use crate::args::{
    BuilderCommand, ContainerCommand, DavitCommand, Deferred, HealthcheckCommand, ImageCommand,
    RegistryCommand, SystemCommand,
};
use crate::error::{Failure, Outcome};
use crate::output;

/// Enters the namespaces that the command needs and opens the engine.
fn open(options: EngineOptions, needs: Needs) -> Result<Engine, Failure> {
    let entered = entry::enter(needs)?;
    for warning in entered.warnings() {
        output::note(&format!("Warning: {warning}"));
    }
    Ok(Engine::open(options, entered)?)
}

fn store(options: EngineOptions) -> Result<Engine, Failure> {
    open(options, Needs::Store)
}

fn launch(options: EngineOptions) -> Result<Engine, Failure> {
    open(options, Needs::Launch)
}

/// The options with the runtime that a command names, which counts more than the global one.
fn of_runtime(options: EngineOptions, runtime: Option<&String>) -> EngineOptions {
    EngineOptions { runtime: runtime.cloned().or(options.runtime), ..options }
}

/// Carries a command out.
pub(crate) fn dispatch(command: DavitCommand, options: EngineOptions) -> Outcome {
    match command {
        DavitCommand::Artifact(Deferred(command)) => artifact::artifact(&store(options)?, command),
        DavitCommand::Attach(Deferred(args)) => exec::attach(&store(options)?, args),
        DavitCommand::Build(Deferred(args)) => build::build(&launch(options)?, args),
        DavitCommand::Builder(Deferred(BuilderCommand::Build(args))) => {
            dispatch(DavitCommand::Build(args), options)
        }
        DavitCommand::Builder(Deferred(BuilderCommand::Prune(Deferred(args)))) => {
            prune::builder(&store(options)?, &args)
        }
        DavitCommand::Commit(Deferred(args)) => changes::commit(&store(options)?, args),
        DavitCommand::Completion(Deferred(args)) => system::completion(args),
        DavitCommand::Container(Deferred(command)) => container(command, options),
        DavitCommand::Copy(Deferred(args)) => copy::copy(&store(options)?, args),
        DavitCommand::Cp(Deferred(args)) => changes::cp(&store(options)?, &args),
        DavitCommand::Create(Deferred(args)) => {
            create::create(&store(of_runtime(options, args.create.further.runtime.as_ref()))?, args)
        }
        DavitCommand::Diff(Deferred(args)) => changes::diff(&store(options)?, &args, true, true),
        DavitCommand::Events(Deferred(args)) => events::events(&store(options)?, args),
        DavitCommand::Exec(Deferred(args)) => exec::exec(&launch(options)?, args),
        DavitCommand::Export(Deferred(args)) => changes::export(&store(options)?, &args),
        DavitCommand::Healthcheck(Deferred(HealthcheckCommand::Run(Deferred(args)))) => {
            containers::check_health(&launch(options)?, &args)
        }
        DavitCommand::History(Deferred(args)) => lists::history(&store(options)?, &args),
        DavitCommand::Image(Deferred(command)) => image(command, options),
        DavitCommand::Images(Deferred(args)) => lists::images(&store(options)?, args),
        DavitCommand::Import(Deferred(args)) => images::import(&store(options)?, args),
        DavitCommand::Info(Deferred(args)) => system::info(&store(options)?, &args),
        DavitCommand::Inspect(Deferred(args)) => inspect::inspect(&store(options)?, &args),
        DavitCommand::Kill(Deferred(args)) => containers::kill(&store(options)?, args),
        DavitCommand::Load(Deferred(args)) => images::load(&store(options)?, args),
        DavitCommand::Login(Deferred(args)) => registry::login(options, args),
        DavitCommand::Logout(Deferred(args)) => registry::logout(options, args),
        DavitCommand::Logs(Deferred(args)) => logs::logs(&store(options)?, args),
        DavitCommand::ManPages(Deferred(args)) => system::man_pages(&args),
        DavitCommand::Manifest(Deferred(command)) => manifest::manifest(&store(options)?, command),
        DavitCommand::Registry(Deferred(RegistryCommand::Serve(Deferred(args)))) => {
            serve::serve(&store(options)?, &args)
        }
        DavitCommand::Search(Deferred(args)) => search::search(&store(options)?, args),
        DavitCommand::Mount(Deferred(args)) => mounting::mount(&store(options)?, &args),
        DavitCommand::Unmount(Deferred(args)) => mounting::unmount(&store(options)?, &args),
        DavitCommand::Pause(Deferred(args)) => containers::pause(&store(options)?, args),
        DavitCommand::Ps(Deferred(args)) => lists::ps(&store(options)?, args),
        DavitCommand::Pull(Deferred(args)) => registry::pull(&store(options)?, args),
        DavitCommand::Push(Deferred(args)) => registry::push(&store(options)?, args),
        DavitCommand::Rename(Deferred(args)) => containers::rename(&store(options)?, &args),
        DavitCommand::Restart(Deferred(args)) => containers::restart(&launch(options)?, args),
        DavitCommand::Rm(Deferred(args)) => containers::rm(&store(options)?, args),
        DavitCommand::Rmi(Deferred(args)) => images::rmi(&store(options)?, args),
        DavitCommand::Run(Deferred(args)) => {
            create::run(&launch(of_runtime(options, args.create.further.runtime.as_ref()))?, args)
        }
        DavitCommand::Runtime(Deferred(args)) => runtime::runtime(args),
        DavitCommand::Save(Deferred(args)) => images::save(&store(options)?, args),
        DavitCommand::Start(Deferred(args)) => containers::start(&launch(options)?, args),
        DavitCommand::Stats(Deferred(args)) => usage::stats(&store(options)?, &args),
        DavitCommand::Stop(Deferred(args)) => containers::stop(&store(options)?, args),
        DavitCommand::System(Deferred(command)) => match command {
            SystemCommand::Df(Deferred(args)) => df::df(&store(options)?, &args),
            SystemCommand::Reset(Deferred(args)) => prune::reset(&store(options)?, &args),
            SystemCommand::Events(Deferred(args)) => events::events(&store(options)?, args),
            SystemCommand::Info(Deferred(args)) => system::info(&store(options)?, &args),
            SystemCommand::Prune(Deferred(args)) => prune::system(&store(options)?, args),
            SystemCommand::Check(Deferred(args)) => system::check(&store(options)?, &args),
        },
        DavitCommand::Tag(Deferred(args)) => images::tag(&store(options)?, &args),
        DavitCommand::Top(Deferred(args)) => usage::top(options, args),
        DavitCommand::Unpause(Deferred(args)) => containers::unpause(&store(options)?, args),
        DavitCommand::Unshare(Deferred(args)) => mounting::unshare(args),
        DavitCommand::Untag(Deferred(args)) => images::untag(&store(options)?, &args),
        DavitCommand::Update(Deferred(args)) => containers::update(&store(options)?, &args),
        DavitCommand::Version(Deferred(args)) => system::version(&args),
        DavitCommand::Volume(Deferred(command)) => volume::volume(&store(options)?, command),
        DavitCommand::Wait(Deferred(args)) => containers::wait(&store(options)?, &args),
    }
}

fn container(command: ContainerCommand, options: EngineOptions) -> Outcome {
    match command {
        ContainerCommand::Attach(args) => dispatch(DavitCommand::Attach(args), options),
        ContainerCommand::Cleanup(Deferred(args)) => containers::cleanup(&store(options)?, &args),
        ContainerCommand::Commit(args) => dispatch(DavitCommand::Commit(args), options),
        ContainerCommand::Cp(args) => dispatch(DavitCommand::Cp(args), options),
        ContainerCommand::Create(args) => dispatch(DavitCommand::Create(args), options),
        ContainerCommand::Diff(Deferred(args)) => changes::diff(&store(options)?, &args, true, false),
        ContainerCommand::Exec(args) => dispatch(DavitCommand::Exec(args), options),
        ContainerCommand::Export(args) => dispatch(DavitCommand::Export(args), options),
        ContainerCommand::Exists(Deferred(args)) => {
            Ok(u8::from(!store(options)?.containers().exists(&args.container)?))
        }
        ContainerCommand::Inspect(Deferred(args)) => inspect::containers(&store(options)?, &args),
        ContainerCommand::Kill(args) => dispatch(DavitCommand::Kill(args), options),
        ContainerCommand::List(args) => dispatch(DavitCommand::Ps(args), options),
        ContainerCommand::Logs(args) => dispatch(DavitCommand::Logs(args), options),
        ContainerCommand::Mount(args) => dispatch(DavitCommand::Mount(args), options),
        ContainerCommand::Unmount(args) => dispatch(DavitCommand::Unmount(args), options),
        ContainerCommand::Pause(args) => dispatch(DavitCommand::Pause(args), options),
        ContainerCommand::Prune(Deferred(args)) => prune::containers(&store(options)?, args),
        ContainerCommand::Rename(args) => dispatch(DavitCommand::Rename(args), options),
        ContainerCommand::Restart(args) => dispatch(DavitCommand::Restart(args), options),
        ContainerCommand::Rm(args) => dispatch(DavitCommand::Rm(args), options),
        ContainerCommand::Run(args) => dispatch(DavitCommand::Run(args), options),
        ContainerCommand::Start(args) => dispatch(DavitCommand::Start(args), options),
        ContainerCommand::Stats(args) => dispatch(DavitCommand::Stats(args), options),
        ContainerCommand::Stop(args) => dispatch(DavitCommand::Stop(args), options),
        ContainerCommand::Top(args) => dispatch(DavitCommand::Top(args), options),
        ContainerCommand::Unpause(args) => dispatch(DavitCommand::Unpause(args), options),
        ContainerCommand::Update(args) => dispatch(DavitCommand::Update(args), options),
        ContainerCommand::Wait(args) => dispatch(DavitCommand::Wait(args), options),
    }
}

fn image(command: ImageCommand, options: EngineOptions) -> Outcome {
    match command {
        ImageCommand::Build(args) => dispatch(DavitCommand::Build(args), options),
        ImageCommand::Diff(Deferred(args)) => changes::diff(&store(options)?, &args, false, true),
        ImageCommand::Exists(Deferred(args)) => Ok(u8::from(!store(options)?.images().exists(&args.image)?)),
        ImageCommand::Explain(Deferred(args)) => build::explain(&store(options)?, &args.image),
        ImageCommand::History(args) => dispatch(DavitCommand::History(args), options),
        ImageCommand::Import(args) => dispatch(DavitCommand::Import(args), options),
        ImageCommand::Inspect(Deferred(args)) => inspect::images(&store(options)?, &args),
        ImageCommand::List(args) => dispatch(DavitCommand::Images(args), options),
        ImageCommand::Load(args) => dispatch(DavitCommand::Load(args), options),
        ImageCommand::Search(args) => dispatch(DavitCommand::Search(args), options),
        ImageCommand::Tree(Deferred(args)) => tree::tree(&store(options)?, &args),
        ImageCommand::Mount(Deferred(args)) => mounting::mount_images(&store(options)?, &args),
        ImageCommand::Unmount(Deferred(args)) => mounting::unmount_images(&store(options)?, &args),
        ImageCommand::Prune(Deferred(args)) => prune::images(&store(options)?, args),
        ImageCommand::Pull(args) => dispatch(DavitCommand::Pull(args), options),
        ImageCommand::Push(args) => dispatch(DavitCommand::Push(args), options),
        ImageCommand::Rm(args) => dispatch(DavitCommand::Rmi(args), options),
        ImageCommand::Save(args) => dispatch(DavitCommand::Save(args), options),
        ImageCommand::Sign(Deferred(args)) => trust::sign(&store(options)?, args),
        ImageCommand::Tag(args) => dispatch(DavitCommand::Tag(args), options),
        ImageCommand::Trust(Deferred(command)) => trust::trust(&store(options)?, command),
        ImageCommand::Untag(args) => dispatch(DavitCommand::Untag(args), options),
    }
}
