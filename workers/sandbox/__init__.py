"""A Sage Accounting API v3.1 that runs on this machine, for demonstrations, tests and faults.

    python -m workers.sandbox

It stands on its own: it imports nothing of the product but its settings, so that what the product believes about
Sage and what the sandbox does cannot be wrong together. docs/sandbox.md says how to use it.

    resources   what a body may hold, as data            rules     validation, paging, projection: no I/O
    reference   the fixed lists (countries, tax rates)   faults    what goes wrong on demand: no I/O
    documents   what a quote or an invoice comes to      forms     what people can edit: no I/O
    businesses  the two sets of books                    switches  where Sage's behaviour varies
    store       SQLite: records, ledger, tokens          books     what a write does, how a record is shown
    oauth       consent, tokens, rotation                api       the paths under /v3.1
    sandbox     all of it without sockets                server    sockets; where faults strike
    pages       the page for people, consent             admin     /_sandbox
"""
