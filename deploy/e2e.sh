#!/usr/bin/env bash
# Proves the containers with a real engine: builds them, runs every command of docs/deploy/compose.md, kills a container of every service and
# every server in mid-run, checks the books each time, and takes everything down again. Needs docker with compose, about ten minutes and
# 4 GB. Base images are pulled; where that is impossible, local images of the same tag are used.
#
#   deploy/e2e.sh            KEEP=1 leaves the installation up
set -euo pipefail
cd "$(dirname "$0")/.."

PAGE=docs/deploy/compose.md
export COMPOSE_PROJECT_NAME=millrace-e2e MILLRACE_PORT=${MILLRACE_PORT:-14400} RABBITMQ_UI_PORT=${RABBITMQ_UI_PORT:-25672}
RUN_TIMEOUT=${RUN_TIMEOUT:-600s}
started=$SECONDS
tmp=$(mktemp -d)
summary=()
ran=()

note() { printf '\n== %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }
pass() { summary+=("ok    $*"); printf 'ok    %s\n' "$*"; }
compose() { docker compose "$@"; }
millrace() { compose run --rm millrace "$@"; }
containers() { compose ps -q "$@"; }
first() { containers "$1" | sed -n 1p; } # not head: it would break the pipe

finish() {
  status=$?
  if [ "$status" -ne 0 ]; then
    compose ps -a || true
    compose logs --tail 30 || true
  fi
  if [ -z "${KEEP:-}" ]; then
    note 'taking everything down'
    docker rm -f "$COMPOSE_PROJECT_NAME-collector" >/dev/null 2>&1 || true
    compose --profile cli --profile jaeger down --volumes --remove-orphans --timeout 45 >/dev/null 2>&1 || true
    left=$(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"; docker volume ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    [ -z "$left" ] || { echo "left behind: $left"; status=1; }
  fi
  rm -rf "$tmp"
  printf '\nSummary after %d s\n' $((SECONDS - started))
  printf '  %s\n' "${summary[@]:-nothing}"
  [ "$status" -eq 0 ] && echo 'RESULT: all good' || echo "RESULT: failed ($status)"
  exit "$status"
}
trap finish EXIT
# Cut short is not passed.
trap 'exit 143' TERM
trap 'exit 130' INT

# Runs a line of the page's fenced commands; the page must have it.
page() {
  grep -qxF -- "$1" "$tmp/page" || fail "$PAGE does not have this command: $1"
  ran+=("$1")
  note "$1"
  eval "$1" </dev/null
}
awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$PAGE" >"$tmp/page"

# value <file> <expression over j>
value() { node -e 'const j = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")); console.log(eval(process.argv[2]))' "$1" "$2"; }

# The run of a key has ended balanced: every city has one outcome, and plan, inbox and ledger agree.
balanced() {
  millrace runs show "sunrise-table@manual:$1" -o json </dev/null >"$tmp/run.json"
  [ "$(value "$tmp/run.json" 'j.state === "closed" && j.verdict === "succeeded" && j.counts.planned === 138398 && j.counts.applied + j.counts.skipped === 138398')" = true ] ||
    fail "$1 did not end balanced: $(cat "$tmp/run.json")"
  millrace audit "sunrise-table@manual:$1" </dev/null || fail "the books of $1 do not agree"
  pass "$2: $(value "$tmp/run.json" '`planned ${j.counts.planned} = applied ${j.counts.applied} + skipped ${j.counts.skipped}, ${(j.durationMs / 1000).toFixed(1)} s, audit balanced`')"
}

start_run() {
  note "run $1"
  millrace run sunrise-table --key "$1" --wait --timeout "$RUN_TIMEOUT" </dev/null >"$tmp/$1.out" 2>&1 &
  waiting=$!
  for _ in $(seq 240); do
    done_items=$(curl -sf "http://127.0.0.1:$MILLRACE_PORT/v1/runs/sunrise-table%40manual%3A$1" >"$tmp/progress.json" && value "$tmp/progress.json" 'j.progress.done' || echo 0)
    [ "$done_items" -gt 5000 ] && { echo "$done_items items are done"; return; }
    sleep 0.5
  done
  fail "run $1 does not get on"
}

end_run() {
  wait "$waiting" || fail "run $1 ended with $?: $(cat "$tmp/$1.out")"
  tail -n 3 "$tmp/$1.out"
}

# kill_and_start <services>: all are dead at once before the first of them comes back, however fast a run is.
kill_and_start() {
  local ids=() id
  for service in "$@"; do ids+=("$(first "$service")"); done
  docker kill "${ids[@]}" >/dev/null
  killed_at=$(date +%s%3N)
  for id in "${ids[@]}"; do
    [ "$(docker inspect -f '{{.State.ExitCode}}' "$id")" = 137 ] || fail "a container of $* was not killed"
  done
  docker start "${ids[@]}" >/dev/null
  echo "killed and started $*"
}

# after_kill <run> <what>: as balanced, for a run that was not over when everything was dead.
after_kill() {
  balanced "$1" "$2"
  [ "$(value "$tmp/run.json" "Date.parse(j.closedAt) > $killed_at")" = true ] || fail "run $1 was over before everything had been killed"
}

healthy() {
  for _ in $(seq 360); do
    [ "$(docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1")" = "$2" ] && return
    sleep 0.5
  done
  fail "container $1 is not $2"
}

note 'base images'
node_image=$(sed -n 's/^ARG NODE=//p' deploy/docker/Dockerfile)
for image in "$node_image" $(sed -n 's/^ *image: \(rabbitmq\|nats\|postgres\):/\1:/p' docker-compose.yml | sort -u); do
  if docker pull -q "$image" >/dev/null 2>&1; then echo "pulled $image"
  elif docker image inspect "$image" >/dev/null 2>&1; then echo "local  $image"
  else fail "$image can neither be pulled nor is it there"; fi
done

page 'docker compose up -d --build --wait'
for service in clock planner processor audit console; do
  count=$(containers "$service" | wc -l)
  for id in $(containers "$service"); do healthy "$id" healthy; done
  pass "$service ×$count healthy"
done

note 'the images'
base=$(docker image inspect -f '{{.Size}}' "$node_image")
sizes=
for image in clock planner-examples processor-examples audit console cli; do
  over=$(($(docker image inspect -f '{{.Size}}' "millrace/$image") - base))
  [ "$over" -lt 100000000 ] || fail "millrace/$image is $over bytes over its base"
  sizes="$sizes $image $((over / 1000000)) MB,"
done
pass "over the base:${sizes%,}"
for service in clock planner processor audit console; do
  id=$(first "$service")
  [ "$(docker exec "$id" id -u)" = 1000 ] || fail "$service runs as root"
  docker exec "$id" sh -c 'touch /app/x || touch /x || touch /var/x' 2>/dev/null && fail "$service can write to its file system"
  grep -q '^CapEff:[[:space:]]*0*$' <(docker exec "$id" cat /proc/1/status) || fail "$service has capabilities"
  docker inspect -f '{{json .Config.Entrypoint}}' "$id" | grep -qxF '["node","/app/main.js"]' || fail "$service is not started by exec form"
  docker inspect -f '{{json .Config.Env}}' "$id" | grep -qE '[0-9a-f]{48}' && fail "$service has a password in its environment"
  docker exec "$id" sh -c 'ls /app/node_modules 2>/dev/null | grep -E "jest|typescript|nx|biome"' && fail "$service has development packages"
done
pass 'not root, no capabilities, read-only, exec form, no password in the environment, no development packages'
open=$(compose ps --format '{{.Ports}}' | tr ',' '\n' | grep -e '->' | grep -v '^ *127\.0\.0\.1:' || true)
[ -z "$open" ] || fail "ports are open to others: $open"
[ "$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: evil.example' "http://127.0.0.1:$MILLRACE_PORT/v1/runs")" = 403 ] || fail 'the console answers under any name'
pass 'ports on loopback only, and the console under its own names only'

note 'who may do what'
sql() { compose exec -T postgres sh -c "PGPASSWORD=\$(cat /secrets/password) psql -h 127.0.0.1 -U postgres -v ON_ERROR_STOP=1 -tA millrace" <<<"$1"; }
for denied in \
  'set role millrace_console; delete from audit.runs' 'set role millrace_processor; select 1 from planner.runs' \
  'set role millrace_planner; delete from millrace.inbox' 'set role millrace_audit; select 1 from planner.chunks' \
  'set role millrace_processor; delete from millrace.migrations'; do
  sql "$denied" >"$tmp/denied" 2>&1 && fail "allowed: $denied"
  grep -q 'permission denied' "$tmp/denied" || fail "$denied: $(cat "$tmp/denied")"
done
pass 'PostgreSQL: console cannot write, processor, planner and audit see no books but their own'
[ "$(compose exec -T rabbitmq rabbitmqctl -q list_users --formatter json | node -p 'JSON.parse(require("fs").readFileSync(0)).map((u) => u.user).sort().join()')" = admin,planner,processor ] ||
  fail 'RabbitMQ has other users than admin, planner and processor'
pass 'RabbitMQ: users admin, planner, processor; no guest'

page 'docker compose run --rm millrace run sunrise-table --key first --wait'
page 'docker compose run --rm millrace audit sunrise-table@manual:first'
page 'docker compose run --rm millrace runs ls'
balanced first 'a run through the CLI container'

start_run killed
kill_and_start clock planner processor audit console
end_run killed
after_kill killed 'a container of each service killed in mid-run'
for service in clock planner processor audit console; do for id in $(containers "$service"); do healthy "$id" healthy; done; done
pass 'all healthy again'

start_run servers
kill_and_start nats postgres rabbitmq
end_run servers
after_kill servers 'RabbitMQ, NATS and PostgreSQL killed in mid-run'

start_run drained
for service in processor planner; do
  id=$(first "$service")
  before=$SECONDS
  docker stop --time 40 "$id" >/dev/null
  code=$(docker inspect -f '{{.State.ExitCode}}' "$id")
  [ "$code" = 0 ] || fail "$service ended with $code after SIGTERM"
  pass "$service drained within $((SECONDS - before)) s of SIGTERM, exit 0"
  docker start "$id" >/dev/null
done
end_run drained
balanced drained 'a processor and a planner stopped in mid-run'

page 'docker build -f deploy/docker/Dockerfile --target planner -t millrace/planner .'
page 'docker build -f deploy/docker/Dockerfile --target processor -t millrace/processor .'
page 'docker build --build-arg SERVICE=planner -t my/planner deploy/own-jobs'
page 'docker build --build-arg SERVICE=processor -t my/processor deploy/own-jobs'
page 'PLANNER_IMAGE=my/planner PROCESSOR_IMAGE=my/processor docker compose up -d --no-build --wait'
page 'docker compose run --rm millrace run hello --wait'
[ "$(sql 'select string_agg(greeting, $$, $$ order by id) from hello')" = 'Hello Ada, Hello Grace, Hello Barbara' ] || fail 'the job of deploy/own-jobs wrote something else'
pass 'own jobs by FROM and COPY'

note 'an item that ends its process'
mkdir -p "$tmp/poison/jobs"
printf 'ARG SERVICE\nFROM my/${SERVICE}\nCOPY jobs /app/jobs\n' >"$tmp/poison/Dockerfile"
cat >"$tmp/poison/jobs/poison.job.ts" <<'JOB'
import { defineJob } from 'millrace';
export const poison = defineJob('poison', {})
  .items(() => Array.from({ length: 20 }, (_, id) => ({ id })), { key: (item) => item.id })
  .process((item) => (item.id === 7 ? process.abort() : item))
  .commit(() => {});
JOB
for service in planner processor; do docker build -q --build-arg "SERVICE=$service" -t "my/$service-poison" "$tmp/poison" >/dev/null; done
PLANNER_IMAGE=my/planner-poison PROCESSOR_IMAGE=my/processor-poison compose up -d --no-build --wait
millrace run poison --key one --wait --timeout "$RUN_TIMEOUT" -o json </dev/null >"$tmp/run.json" || [ $? -lt 7 ] || fail "the run did not end: $(cat "$tmp/run.json")"
[ "$(value "$tmp/run.json" 'j.counts.applied === 19 && j.counts.failed + j.counts.rejected === 1')" = true ] || fail "the neighbours suffered: $(cat "$tmp/run.json")"
millrace audit poison@manual:one </dev/null
pass "an item that aborts its process fails alone: $(value "$tmp/run.json" '`applied ${j.counts.applied}, failed ${j.counts.failed + j.counts.rejected}`')"

page 'docker compose run --rm secrets cat /secrets/admin/AMQP_URL' | grep -q '^amqp://admin:' || fail 'no password for admin'
page "docker compose exec postgres sh -c 'PGPASSWORD=\$(cat /secrets/password) psql -h 127.0.0.1 -U postgres millrace'"
ran+=('docker compose run --rm secrets cat /secrets/admin/AMQP_URL')

page 'docker compose ps'
page 'docker compose logs --tail 20 planner'
page 'docker compose up -d --no-build --wait --scale processor=3'
[ "$(containers processor | wc -l)" = 3 ] || fail 'there are not three processors'
page 'docker compose up -d --build --wait'
page 'docker compose stop'
exits=$(compose ps -a --format '{{.Service}} {{.ExitCode}}' | grep -E '^(clock|planner|processor|audit|console) ' | grep -v ' 0$' || true)
[ -z "$exits" ] || fail "not stopped cleanly: $exits"
pass 'stopped cleanly'
page 'docker compose start'
for id in $(containers planner processor); do healthy "$id" healthy; done
millrace run sunrise-table --key again --wait --timeout "$RUN_TIMEOUT" </dev/null
balanced again 'after stop and start'

# A clock has something to tell only when a tick is due.
all_seen() { for service in planner processor audit console; do [[ " $1 " == *" millrace-$service "* ]] || return 1; done; }
jaeger='docker compose --env-file deploy/compose/jaeger.env up -d --no-build --wait'
image=$(sed -n 's/^ *image: \(jaegertracing.*\)/\1/p' docker-compose.yml)
if docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null 2>&1; then
  page "$jaeger"
  pass 'Jaeger runs'
else
  ran+=("$jaeger")
  but=', but for the one above'
  summary+=("NOT RUN as the page has it, $image can neither be pulled nor is it there: $jaeger")
  # In its place something that notes which services send traces.
  docker run -d --name "$COMPOSE_PROJECT_NAME-collector" --network "${COMPOSE_PROJECT_NAME}_default" --network-alias jaeger "$node_image" node -e '
    const seen = new Set();
    require("http").createServer((request, response) => {
      if (request.method === "GET") return response.end([...seen].sort().join(" "));
      const parts = [];
      request.on("data", (part) => parts.push(part)).on("end", () => {
        for (const [name] of Buffer.concat(parts).toString("latin1").matchAll(/millrace-(clock|planner|processor|audit|console)/g)) seen.add(name);
        response.end();
      });
    }).listen(4318)' >/dev/null
  docker compose --env-file deploy/compose/jaeger.env up -d --no-build --wait clock planner processor audit console
  millrace run sunrise-table --limit 100 --key traced --wait --timeout "$RUN_TIMEOUT" </dev/null
  for _ in $(seq 60); do
    seen=$(docker exec "$COMPOSE_PROJECT_NAME-collector" node -e 'fetch("http://127.0.0.1:4318").then((r) => r.text()).then(console.log)')
    all_seen "$seen" && break
    sleep 0.5
  done
  docker rm -f "$COMPOSE_PROJECT_NAME-collector" >/dev/null
  all_seen "$seen" || fail "traces came from: $seen"
  pass "traces of a run arrive over OTLP from $seen"
fi

page 'docker compose down --volumes'
missed=$(grep -vxF -f <(printf '%s\n' "${ran[@]}") "$tmp/page" || true)
[ -z "$missed" ] || fail "commands of $PAGE that were not run: $missed"
pass "every command of $PAGE was run${but:-}"
