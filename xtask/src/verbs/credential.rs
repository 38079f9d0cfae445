//! `cargo xtask credential`

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use kiln_base::replace::{self, Durability};
use kiln_host::{eprintln, print, println};

use crate::credential::discover::{Trust, discover};
use crate::credential::info::Cluster;
use crate::credential::pin::{Authorities, Pin};
use crate::credential::server::Server;
use crate::credential::token::Token;
use crate::credential::{Join, NAME, handover};

/// The mode of files with a token.
const SECRET: u32 = 0o600;

#[derive(Debug, Args)]
pub(super) struct Credential {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the credential with which a node joins a cluster
    ///
    /// Asks the API server for the cluster's certificate authority and verifies it with the token and
    /// the hash, as `kubeadm join` does.
    Join(JoinArgs),
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// The API server, such as `https://192.0.2.1:6443`
    #[arg(long, value_name = "URL")]
    server: Server,
    /// A bootstrap token, as `kubeadm token create` makes it
    // Not parsed by clap, whose message would repeat it.
    #[arg(long)]
    token: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// The address of the cluster's name server; repeatable [default: 10.96.0.10]
    #[arg(long, value_name = "ADDRESS")]
    cluster_dns: Vec<IpAddr>,
    /// The cluster's domain [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// The form in which the machine gets the credential
    #[arg(long = "as", value_enum, default_value_t = Form::File)]
    form: Form,
    /// The file to write [default: kiln.join, and kiln.join.img for nocloud]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For nocloud: the node's name
    #[arg(long)]
    hostname: Option<String>,
    /// For nocloud: a file with the node's settings, as in the credential kiln.node
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TrustArgs {
    /// The hash of the authority's key, as `kubeadm token create --print-join-command` prints it;
    /// repeatable
    #[arg(long, value_name = "sha256:HEX")]
    ca_hash: Vec<Pin>,
    /// The authority's certificate in PEM; nothing is fetched then
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust any server that knows the token
    #[arg(long)]
    unsafe_skip_ca_verification: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A file, for the ESP or for further tools
    File,
    /// A file, and the arguments of QEMU that pass it
    Qemu,
    /// Elements of a libvirt domain, on standard output unless --out is given
    Libvirt,
    /// A `NoCloud` disk
    Nocloud,
}

impl Credential {
    pub(super) fn run(self) -> Result<()> {
        match self.action {
            Action::Join(arguments) => arguments.run(),
        }
    }
}

impl JoinArgs {
    fn run(self) -> Result<()> {
        ensure!(
            self.form == Form::Nocloud || self.hostname.is_none() && self.node.is_none(),
            "--hostname and --node need --as nocloud, because only a NoCloud disk has room for them; pass \
             them to the machine as the credentials kiln.hostname and kiln.node"
        );
        let token: Token = self.token.parse()?;
        let (server, authorities) = self.cluster(&token)?;
        if server != self.server {
            eprintln!("nodes reach this cluster at {server}, as its cluster-info says");
        }
        let join = Join {
            server,
            token,
            ca: authorities.pem()?,
            cluster_dns: self.cluster_dns.clone(),
            cluster_domain: self.cluster_domain.clone(),
        };
        self.write(&join.text()?)
    }

    /// Returns the server for nodes, and the authorities.
    fn cluster(&self, token: &Token) -> Result<(Server, Authorities)> {
        let trust = match &self.trust.ca {
            Some(path) => {
                let pem = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let authorities = Authorities::parse(&pem)
                    .with_context(|| format!("cannot use {}", path.display()))?;
                return Ok((self.server.clone(), authorities));
            }
            None if self.trust.unsafe_skip_ca_verification => Trust::TokenOnly,
            None => Trust::Pins(self.trust.ca_hash.clone()),
        };
        let Cluster { server, authorities } = discover(&self.server, token, &trust)?;
        Ok((server, authorities))
    }

    fn write(&self, text: &str) -> Result<()> {
        let default =
            if self.form == Form::Nocloud { format!("{NAME}.img") } else { NAME.to_owned() };
        let path = self.out.clone().unwrap_or_else(|| default.into());
        let path = std::path::absolute(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        match self.form {
            Form::File => save(&path, text.as_bytes()),
            Form::Qemu => {
                save(&path, text.as_bytes())?;
                println!("{}", handover::qemu(&path));
                Ok(())
            }
            Form::Libvirt if self.out.is_none() => {
                print!("{}", handover::libvirt(text));
                Ok(())
            }
            Form::Libvirt => save(&path, handover::libvirt(text).as_bytes()),
            Form::Nocloud => {
                let read = |path: &PathBuf| {
                    std::fs::read_to_string(path)
                        .with_context(|| format!("cannot read {}", path.display()))
                };
                let node = self.node.as_ref().map(read).transpose()?;
                save(&path, &handover::nocloud(text, self.hostname.as_deref(), node.as_deref())?)
            }
        }
    }
}

/// Writes a file that only its owner can read, and names it on standard error.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    replace::write(path, bytes, SECRET, Durability::File)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{}: written; it has the token, so keep it secret", path.display());
    Ok(())
}
