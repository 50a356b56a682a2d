#![allow(missing_docs)]
use clap::Parser;
use cdc_drill::{cli, backup::*};
#[derive(Parser)]
enum C { Wal(cli::wal::Args), Backup(cli::backup::Args), Extract{repo: camino::Utf8PathBuf, point: PointSelector, into: camino::Utf8PathBuf, uid: u32, gid: u32},
 Import{url:String, repo: camino::Utf8PathBuf, point: PointSelector, #[arg(long)] fake: Option<camino::Utf8PathBuf>}, Salvage{repo: camino::Utf8PathBuf, sys: u64, path: camino::Utf8PathBuf},
 Cont{repo: camino::Utf8PathBuf, sys: u64, tli: u32, from: String, to: String} }
fn main() {
    let rt = tokio::runtime::Runtime::new().unwrap();
    let code = match C::parse() {
        C::Wal(a) => match cli::wal::run_now(a) { Ok(e) => e.code(), Err(e) => { eprintln!("{e}"); e.exit().code() } },
        C::Backup(a) => { match rt.block_on(cli::backup::run(a)) { Ok(e) => e.code(), Err(e) => { eprintln!("{e}"); e.exit().code() } } }
        C::Extract{repo,point,into,uid,gid} => { let p = Repository::open(&repo).unwrap().point(&point).unwrap(); match parts::postgres::extract(&p,&into,Some(parts::postgres::Owner{uid,gid})) { Ok(e)=>{println!("{e:?}");0}, Err(e)=>{println!("{e}"); e.exit().code()} } }
        C::Salvage{repo,sys,path} => { println!("{:?}", Repository::open(&repo).unwrap().archive(sys).add_segment(&path, wal::SegmentState::Complete)); 0 }
        C::Cont{repo,sys,tli,from,to} => { let a = Repository::open(&repo).unwrap().archive(sys); println!("{:?}", a.continuity(&a.history(tli).unwrap(), from.parse().unwrap(), to.parse().unwrap())); 0 }
        C::Import{url,repo,point,fake} => { let dump = match fake { Some(f) => parts::registry::Dump::from_files(&std::fs::read(f.join("registry.json")).unwrap(), &std::fs::read(f.join("dump.jsonl")).unwrap()).unwrap(), None => Repository::open(&repo).unwrap().point(&point).unwrap().dump().unwrap() };
            let reg = cdc_drill::client::registry::Registry::new(&url);
            let zip = parts::registry::import_zip(&dump).unwrap();
            rt.block_on(async { println!("{:?}", reg.import(zip).await); let now = parts::registry::capture(&reg).await.unwrap(); println!("{} versions, {} subjects, caps {:?}", now.versions.len(), now.subjects.len(), now.caps_hit); for d in parts::registry::diff(&dump,&now) { println!("DIFF {d}"); } }); 0 }
    };
    std::process::exit(code.into());
}
