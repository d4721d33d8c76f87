# make demo   the whole platform and a simulated city on this machine: http://127.0.0.1:8080 (ONCE=1: one fire, then exit)
#             PORT=8081: another page port; REPLAY=FILE.csv [SPEED=10]: plays a measured fire
# make test   installs the services that the tests need, then lint, types, import rules and every test
# make soak   the long campaigns: kill tests and replays at full length, dead units and lost heartbeats, the tests of the benchmarks
# make pythons  the unit tests on every other Python that is installed (3.12, 3.13)
# make lock   resolve pyproject.toml into requirements.lock anew (needs uv)

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO_DATA ?= .demo
REPLAY ?=
SPEED ?=
PORT ?=
# byte code is kept, and not in the checkout: a third of the start of each command and process that a test runs
test check soak pythons: export PYTHONDONTWRITEBYTECODE =
test check soak pythons: export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/cache/bytecode

# tests that bear company: no whole platform, no campaign with time limits. All others run two at a time.
BESIDE := tests/simulated tests/timelines/test_scenarios.py tests/unit $(patsubst %,tests/integration/test_%.py, \
  act_pages acts_commands acts_registry admissions audit babbling backtest broker_acl broker_alarms broker_apply \
  broker_process broker_traps ca ca_commands ca_rotation cad_updates cad_webhook cap claims commissioning_browser \
  commissioning_check commissioning_registry confidential coverage_commands coverage_page coverage_registry dashboards \
  dc09 dc09_independent deadman disabled drill_pages drill_report drill_store drills drills_kept embedded_broker enrolment_pages escalation est est_hostile est_renewal est_ways \
  expiry feed fire_groups fire_lane fire_throttle first_link gateway_priority gateway_upkeep group_pages history hsm \
  http_gateway https_alarm import incident_report influx influx_access influx_drain influx_rejects ingest ingest_more_filters intents \
  journal journal_acts journal_cad journal_holds journal_kept journal_model journal_readers journal_replicas \
  journal_server labels list_tidying local_page mail metrics_http migrations missed_readings modbus_content_faults \
  modbus_independent modbus_lines modbus_poller modbus_round_trip modbus_simulator modbus_write mqtt_out nearby ocsp oidc outages_told \
  paper_record password_listener paths_places paths_shown people people_commands pkilint place_commands places planned \
  quarantine_retry query registry registry_credentials registry_places registry_standings reported_config restore \
  restore_waiting restore_whole rollups_influx rule_commands rule_documents rule_pages rules_followed secret_commands \
  sign_in slow_journal spool_disk_full store_init supervision supervisor telemetry_db telemetry_export telemetry_lane telemetry_query \
  test_mode token_commands troubles two_writers unit_life upkeep uplink vendor_devices vendor_lanes warm_latches web web_browser \
  web_commissioning web_records web_rights wire_time)

# files are shared out in this order
SHARED := --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test check soak pythons lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml deploy/setup.py
	@$(PYTHON) deploy/setup.py .venv

demo: $(READY)
	@$(BIN)/iotcore demo --data $(DEMO_DATA) $(if $(ONCE),--once) $(if $(JSON),--json) $(if $(REPLAY),--replay $(REPLAY)) \
	  $(if $(SPEED),--speed $(SPEED)) $(if $(PORT),--port $(PORT))

test: $(READY)
	@.ci/services
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest -n 3 $(SHARED) $(BESIDE)
	$(BIN)/pytest -n 2 $(SHARED) tests/e2e tests/integration tests $(addprefix --ignore=,$(BESIDE))

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .venv/cache/import-linter

soak: $(READY)
	@.ci/services
	$(BIN)/pytest -m soak --timeout 7200

pythons:
	@for version in 3.12 3.13; do \
	  command -v python$$version >/dev/null && python$$version -c pass 2>/dev/null || { echo "python$$version is not installed"; continue; }; \
	  python$$version deploy/setup.py .venv/python$$version && .venv/python$$version/bin/pytest -q tests/unit || exit 1; \
	done

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --group dev \
	  pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv $(DEMO_DATA)
