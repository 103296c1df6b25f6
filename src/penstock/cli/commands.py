"""Every command in the order of a model's life: where its function is, what it does, an example."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["COMMANDS", "Command", "Group"]


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        target: ``module:function`` inside ``penstock.cli``.
        text: What it does, as help shows it.
        example: A command line that works.
    """

    target: str
    text: str
    example: str


class Group(msgspec.Struct, frozen=True):
    """Commands that share a first word.

    Attributes:
        text: What they are about.
        commands: The commands by their second word.
    """

    text: str
    commands: Mapping[str, Command]


COMMANDS: Mapping[str, Command | Group] = {
    "init": Command(
        "project:init",
        "Make the folder a project. Writes settings, a starter project.py and the local token.",
        "penstock init --home shop",
    ),
    "plan": Command(
        "project:plan",
        "Show what 'apply' would do. What is created, changed, removed, and what becomes stale.",
        "penstock plan",
    ),
    "apply": Command(
        "project:apply",
        "Apply the project's declarations. In one transaction; applying twice changes nothing.",
        "penstock apply",
    ),
    "ingest": Command(
        "data:ingest",
        "Read a source's files into its raw table. A file that was read before is not read twice.",
        "penstock ingest candles",
    ),
    "data": Group(
        "Raw records: those in quarantine, and deletions.",
        {
            "quarantine": Command(
                "quarantine:data_quarantine",
                "Show the records that broke a rule, the newest first. As they came, with the "
                "reasons; for admins.",
                "penstock data quarantine candles --reason positive",
            ),
            "deletions": Command(
                "deleting:data_deletions",
                "List deletions, newest first. What each took away, who asked for it, and why.",
                "penstock data deletions candles",
            ),
            "delete": Command(
                "deleting:data_delete",
                "Delete an entity's records, all or those of one time. Nothing counts them from "
                "then on; the raw table stays as it is.",
                "penstock data delete candles --key symbol=BTCUSDT --reason 'asked to'",
            ),
        },
    ),
    "features": Group(
        "Features: their catalogue, built, looked up, checked.",
        {
            "list": Command(
                "catalogue:features_list",
                "List every feature and feature service. Type, unit, owner, tags, users.",
                "penstock features list --tag market --unused",
            ),
            "search": Command(
                "catalogue:features_search",
                "Find features by words. Of all that is said of them, the best first.",
                "penstock features search volatility of returns",
            ),
            "show": Command(
                "overviews:features_show",
                "Show what is known of a view or feature. Meaning, profile, users, origins.",
                "penstock features show momentum.last_close",
            ),
            "build": Command(
                "data:features_build",
                "Fold new raw batches into the online store.",
                "penstock features build momentum",
            ),
            "get": Command(
                "looking:features_get",
                "Show features by key. Of a view or a service: online, or as they were at a time.",
                "penstock features get momentum --keys BTCUSDT --at 2024-03-01T12:00:00Z",
            ),
            "check": Command(
                "consistency:features_check",
                "Compute a sample of features again. Online ones, or those that scores saw; exit 1 "
                "where they differ.",
                "penstock features check btc --served --over 7d",
            ),
            "backfill": Command(
                "storing:features_backfill",
                "Store a view's features as of many times. Again only what new records change.",
                "penstock features backfill momentum --from 2024-01-01 --every 1h",
            ),
            "profile": Command(
                "profiles:features_profile",
                "Show how a view's features lie, day by day. Nulls, mean, quantiles, shifts.",
                "penstock features profile momentum --days 30",
            ),
            "vacuum": Command(
                "vacuuming:features_vacuum",
                "Remove old versions of tables that nothing names.",
                "penstock features vacuum --older-than 7d --dry-run",
            ),
            "diff": Command(
                "differing:features_diff",
                "Show how two versions of a view differ. With who applied them, and when.",
                "penstock features diff momentum --from 1",
            ),
            "select": Command(
                "selecting:features_select",
                "Rank a dataset's features and keep the best by an id. Writes a report with plots.",
                "penstock features select direction --top 20",
            ),
        },
    ),
    "train": Command(
        "training:train",
        "Train a model's candidates. Evaluates them, and lets the gates decide.",
        "penstock train btc-direction",
    ),
    "models": Group(
        "Model versions and the aliases that point to them.",
        {
            "list": Command(
                "models:list_versions", "List models and their versions.", "penstock models list"
            ),
            "show": Command(
                "models:show",
                "Show one version: parameters, metrics, gates, engine.",
                "penstock models show btc-direction@3",
            ),
            "promote": Command(
                "models:promote",
                "Make a version the champion; the champion becomes previous.",
                "penstock models promote btc-direction@3",
            ),
            "alias": Command(
                "models:alias",
                "Make a version the challenger, or the candidate. Routes lead there.",
                "penstock models alias btc-direction@3 challenger",
            ),
        },
    ),
    "graphs": Group(
        "Graphs of models: their steps, and what these are pinned to.",
        {
            "list": Command(
                "graphs:graphs_list", "List graphs and their versions.", "penstock graphs list"
            ),
            "show": Command(
                "graphs:graphs_show",
                "Show the steps of a graph as a tree. With the versions that they are pinned to.",
                "penstock graphs show blend@3",
            ),
        },
    ),
    "deploy": Command(
        "deploying:deploy",
        "Check a model version and put it behind a deployment. No request fails meanwhile.",
        "penstock deploy btc --version 3",
    ),
    "approve": Command(
        "deploying:approve",
        "Approve or reject a version. The one that waits for it on a deployment.",
        "penstock approve btc --reason 'differences are as expected'",
    ),
    "deployments": Group(
        "What is deployed, as a file for a repository.",
        {
            "export": Command(
                "deployments:deployments_export",
                "Write what is deployed. Versions, package hashes and routes, in a stable order.",
                "penstock deployments export deployed.json",
            ),
            "apply": Command(
                "deployments:deployments_apply",
                "Bring versions and routes to what a file says. Through the same checks.",
                "penstock deployments apply deployed.json --dry-run",
            ),
        },
    ),
    "rollback": Command(
        "serving:rollback",
        "Bring a deployment's previous version back. Or the one named by --to.",
        "penstock rollback btc --to 2",
    ),
    "routes": Group(
        "Who answers which requests, changed while it runs.",
        {
            "show": Command(
                "routing:routes_show",
                "Show the routes as they are now. Shares, versions, fallback, what was changed.",
                "penstock routes show btc",
            ),
            "set": Command(
                "routing:routes_set",
                "Change who answers which requests, or the fallback. Every serving process follows "
                "at once; it holds until 'routes reset', or until other routes are applied.",
                "penstock routes set btc --share @3=0.05 --reason 'try it'",
            ),
            "reset": Command(
                "routing:routes_reset",
                "Take every change at run time back: the routes are as declared.",
                "penstock routes reset btc",
            ),
        },
    ),
    "experiments": Group(
        "A/B experiments: two versions on two parts of the traffic.",
        {
            "list": Command(
                "experimenting:experiments_list",
                "List experiments, and what those that are declared wait for.",
                "penstock experiments list",
            ),
            "show": Command(
                "experimenting:experiments_show",
                "Show an experiment: its arms, how they differ, the verdict.",
                "penstock experiments show new-features --report experiment.html",
            ),
            "stop": Command(
                "experimenting:experiments_stop",
                "End an experiment. Promote the tried version, or give all traffic back.",
                "penstock experiments stop new-features --no-winner --reason 'too slow'",
            ),
        },
    ),
    "bandits": Group(
        "Bandits: versions whose shares follow what they bring.",
        {
            "list": Command(
                "bandits:bandits_list", "List bandits and their shares.", "penstock bandits list"
            ),
            "show": Command(
                "bandits:bandits_show",
                "Show a bandit and its arms. Shares, chances to be the best, rewards.",
                "penstock bandits show promo",
            ),
        },
    ),
    "predict": Command(
        "predicting:predict",
        "Ask a deployment for a prediction. By entity key, or by features.",
        "penstock predict btc --key BTCUSDT",
    ),
    "client": Command(
        "generating:client",
        "Write a typed Python client of a deployment. A package that needs httpx alone.",
        "penstock client btc --out btc-client",
    ),
    "score": Command(
        "serving:score",
        "Score new rows in a batch. Every new row of the spine goes to the scores table.",
        "penstock score btc",
    ),
    "observe": Command(
        "watching:observe",
        "Report the true outcome of predictions.",
        "penstock observe btc --id 01JD3Z... --value 1",
    ),
    "monitor": Command(
        "watching:monitor",
        "Look at a deployment now. Measures drift, accuracy, latency; acts on a breach.",
        "penstock monitor btc",
    ),
    "runs": Group(
        "Durable runs: ingestion, training, scoring, monitoring.",
        {
            "list": Command(
                "runs:list_runs", "List runs, newest first.", "penstock runs list --state failed"
            ),
            "show": Command(
                "runs:show", "Show a run with its steps.", "penstock runs show train-01JD3Z..."
            ),
            "retry": Command(
                "runs:retry",
                "Let a failed or interrupted run go on from its last finished step.",
                "penstock runs retry train-01JD3Z...",
            ),
        },
    ),
    "scores": Group(
        "Scores that were given.",
        {
            "prune": Command(
                "pruning:scores_prune",
                "Remove scores that have been kept long enough. Their ids stay.",
                "penstock scores prune direction --dry-run",
            ),
        },
    ),
    "events": Command(
        "happening:events",
        "List what happened, or follow it. Data taken in, versions ready, scores ready, breaches.",
        "penstock events --kind scores.ready --follow",
    ),
    "lineage": Command(
        "origins:lineage",
        "Show where something comes from. A prediction, model@version, dataset, batch or file.",
        "penstock lineage btc-direction@3",
    ),
    "explain": Command(
        "explaining:explain",
        "Show what each feature added to a prediction. Beside test rows of the model's version.",
        "penstock explain 01JD3Z...",
    ),
    "replay": Command(
        "origins:replay",
        "Compute a prediction again. Says what differs, and why.",
        "penstock replay 01JD3Z...",
    ),
    "users": Group(
        "Who may call, with what role; each has a token of their own.",
        {
            "add": Command(
                "people:add",
                "Add a user and show their token, this once.",
                "penstock users add ana --role reader",
            ),
            "list": Command("people:list_users", "List users.", "penstock users list"),
            "token": Command(
                "people:token",
                "Give a user a new token and show it, this once; the old one ends.",
                "penstock users token ana",
            ),
            "remove": Command(
                "people:remove",
                "Remove a user, their token and their grants.",
                "penstock users remove ana",
            ),
        },
    ),
    "access": Group(
        "Who may read features that are protected by a tag or a view.",
        {
            "grant": Command(
                "granting:grant",
                "Let a user read what a tag or a view protects.",
                "penstock access grant ana --tag pii",
            ),
            "revoke": Command(
                "granting:revoke",
                "Take a grant back. Serving processes refuse within a second.",
                "penstock access revoke ana --tag pii",
            ),
            "list": Command(
                "granting:list_access",
                "List what is protected, who was granted it, and who was refused.",
                "penstock access list",
            ),
        },
    ),
    "status": Command(
        "state:status",
        "Show the project at a glance. Data, models, deployments, incidents, processes.",
        "penstock status",
    ),
    "top": Command(
        "top:top",
        "Watch what serves, live. Answers, latency, batches, errors, fallbacks, processes.",
        "penstock top --once",
    ),
    "doctor": Command(
        "doctor:doctor",
        "Check that all is well. Settings, state, tables, audit chain, disk, ports, processes.",
        "penstock doctor",
    ),
    "up": Command(
        "processes:up",
        "Start and supervise all processes on this machine.",
        "penstock up",
    ),
    "api": Command("processes:api", "Run the control-plane API.", "penstock api --port 8000"),
    "worker": Command(
        "processes:worker", "Run workflows, schedules and triggers.", "penstock worker"
    ),
    "stream": Command(
        "processes:stream",
        "Move events to raw tables and online features.",
        "penstock stream",
    ),
    "serve": Command("processes:serve", "Run online scoring.", "penstock serve --port 8001"),
    "demo": Command(
        "demo:run",
        "Run the whole loop unattended. On six symbols of hourly candles, with real processes.",
        "penstock demo psystock --home /tmp/psystock-demo",
    ),
}
