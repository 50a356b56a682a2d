//! The documents: pages that are generated from the program, and that links, commands and snippets in all of them hold.

mod checks;
mod commands;
mod examples;
mod links;
mod pages;
mod picture;
mod scenarios;
