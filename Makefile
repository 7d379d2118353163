# pghistory, the extension, and pyhist, its Python mirror. `make help` lists the targets.
#
# `make` and `make install` need POSIX tools only, and use PGXS where pg_config knows one. PGXS owns the names
# VERSION, INSTALL_SCRIPT, INSTALL_DATA and PYTHON, and the targets all, install, installcheck and check:
# nothing of ours may be called so.

EXTENSION = pghistory
DATA = $(sort $(install_script) $(wildcard extension/$(EXTENSION)--*.sql))
REGRESS = $(sort $(notdir $(basename $(wildcard tests/sql/sql/*.sql))))
REGRESS_OPTS = --inputdir=tests/sql --outputdir=tests/sql
leftovers = build dist tests/sql/results tests/sql/regression.diffs tests/sql/regression.out
EXTRA_CLEAN = $(leftovers)

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

extension_version := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" pghistory.control)
install_script := extension/$(EXTENSION)--$(extension_version).sql

.NOTPARALLEL:
.PHONY: all build install uninstall installcheck clean help demo example-django example-fastapi test lint stories matrix bench reference

all: build

ifneq ($(PGXS),)
include $(PGXS)
else
sharedir ?= $(shell $(PG_CONFIG) --sharedir 2>/dev/null)
extension_folder = $(DESTDIR)$(sharedir)/extension

install: all
	@test -n "$(sharedir)" || { \
	    echo "No pg_config: name the server's share folder, as in: make install sharedir=/usr/share/postgresql/16" >&2; exit 1; }
	mkdir -p "$(extension_folder)"
	install -m 644 $(EXTENSION).control $(DATA) "$(extension_folder)"

uninstall:
	rm -f "$(extension_folder)/$(EXTENSION).control" $(DATA:extension/%="$(extension_folder)/%")

installcheck:
	@echo "make installcheck needs PGXS (Debian: postgresql-client-NN, Red Hat: postgresql-devel);" \
	    "make test brings its own." >&2; exit 1

clean:
	rm -rf $(leftovers)
endif

# The install script is sql/pghistory.sql with its \ir lines followed, without psql's own commands, and with CREATE
# for CREATE OR REPLACE. An upgrade script, from each released version, is the same with CREATE OR REPLACE, behind
# the DROPs of what is gone (sql/upgrade/gone.sql). A script is written only if that changes it: root can install from
# somebody else's folder.
define follow_table_of_contents
function follow(file,    folder, line, status) {
    folder = file
    sub(/[^\/]*$$/, "", folder)
    while ((status = (getline line < file)) > 0)
        if (line ~ /^\\ir /) {
            sub(/^\\ir +/, "", line)
            follow(folder line)
        } else if (line !~ /^\\/) {
            if (!replace) sub(/^CREATE OR REPLACE /, "CREATE ", line)
            print line
        }
    if (status < 0) {
        print "cannot read " file > "/dev/stderr"
        exit 1
    }
    close(file)
}
BEGIN {
    print "-- Built from sql/ by make build: not to be edited by hand."
    print "\\echo Use \"" (replace ? "ALTER EXTENSION $(EXTENSION) UPDATE" : "CREATE EXTENSION $(EXTENSION)") \
          "\" to load this file. \\quit"
    if (replace) follow("sql/upgrade/gone.sql")
    follow("sql/$(EXTENSION).sql")
}
endef
export follow_table_of_contents

released := $(filter-out $(extension_version),$(foreach script,$(wildcard extension/$(EXTENSION)--*.sql),$(if \
    $(findstring --,$(patsubst extension/$(EXTENSION)--%.sql,%,$(script))),,$(patsubst extension/$(EXTENSION)--%.sql,%,$(script)))))
upgrade_scripts := $(released:%=extension/$(EXTENSION)--%--$(extension_version).sql)

build:
ifneq ($(wildcard sql/$(EXTENSION).sql),)
	@built=$$(mktemp) && trap 'rm -f "$$built"' EXIT && \
	for script in $(install_script) $(upgrade_scripts); do \
	    case $$script in *--*--*) replace=1;; *) replace=0;; esac; \
	    awk -v replace=$$replace "$$follow_table_of_contents" > "$$built" && \
	    if ! cmp -s "$$built" $$script; then echo "writing $$script"; cat "$$built" > $$script; fi || exit 1; \
	done
endif

# What follows is for looking at pghistory and for working on it. It needs Python 3.10 or newer, in an environment of
# its own in .venv; PostgreSQL is an installed one or comes as a Python package.
python3 ?= python3
venv := .venv

$(venv)/ready-for-%: pyproject.toml pghistory.control
	@$(python3) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "Python 3.10 or newer is needed. If it has another name: make $(MAKECMDGOALS) python3=NAME" >&2; exit 1; }
	@test -x $(venv)/bin/python || { echo "making $(venv)"; $(python3) -m venv $(venv); }
	@echo "installing pyhist[$*] into $(venv)"
	@$(venv)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(if $(filter test,$*),$(addprefix $(venv)/ready-for-,demo example-django example-fastapi))

demo: $(venv)/ready-for-demo
	@$(venv)/bin/pyhist demo $(if $(keep),--keep)

port := 8000

example-django example-fastapi: example-%: $(venv)/ready-for-example-%
	@PATH="$(abspath $(venv))/bin:$$PATH" PORT=$(port) python -m pyhist.server run -- sh examples/$*/start.sh

# As many at a time as there are processors, each with a server of its own.
pytest = $(venv)/bin/pytest --numprocesses=auto --dist=loadfile

# The house rules come first: the stories install, and that would build a script that had not been built.
test: lint stories
	$(pytest) --ignore=tests/house

lint: $(venv)/ready-for-test
	$(venv)/bin/ruff check .
	$(venv)/bin/ruff format --check .
	$(venv)/bin/mypy pyhist
	$(venv)/bin/pytest --quiet tests/house

stories: $(venv)/ready-for-test
	$(venv)/bin/python -m pyhist.server run -- sh -c '$(MAKE) PG_CONFIG="$$PG_CONFIG" install installcheck'

majors := 14 15 16 17 18

matrix: $(addprefix matrix-,$(majors))

matrix-%: $(venv)/ready-for-test
	@echo "== PostgreSQL $* =="
	PYHIST_BINDIR=$$($(venv)/bin/python tests/binaries.py $*) && export PYHIST_BINDIR && \
	$(MAKE) stories && $(pytest) --ignore=tests/house

# The server is that of this machine, or of `major=18`.
bench: $(venv)/ready-for-bench
	@$(if $(major),PYHIST_BINDIR=$$($(venv)/bin/python tests/binaries.py $(major)) && export PYHIST_BINDIR &&) \
	$(venv)/bin/python tests/bench/bench.py $(if $(short),--short) $(addprefix --only ,$(only))

reference: $(venv)/ready-for-test
	$(venv)/bin/python tests/house/reference.py

help:
	@echo "make                 build extension/ from sql/"
	@echo "make install         put the extension's files into a server's share folder (PG_CONFIG=, DESTDIR=)"
	@echo "make installcheck    run the stories of tests/sql on a running server"
	@echo "make demo            see history being recorded, on a private server (keep=1 leaves it running)"
	@echo "make example-fastapi an application whose users change things, and see who did what (port=8000)"
	@echo "make example-django  the same with Django"
	@echo "make test            lint, stories and tests, on private servers"
	@echo "make matrix          stories and tests on PostgreSQL $(majors); make matrix-16 for one"
	@echo "make lint            style, types and house rules"
	@echo "make bench           what recording costs (short=1: in minutes; only=bulk: one group; major=18: on that PostgreSQL)"
	@echo "make reference       build docs/reference.md from the comments in sql/"
	@echo "make clean           remove build results"
