#!/bin/bash
# Lays out the official OpenSearch server from its Maven packages and prints its home.
# usage: opensearch-get.sh [VERSION]      (default 2.19.6; into $PG2OS_DEV_HOME/opensearch-VERSION; needs mvn and unzip)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -le 1 ] || usage
version=${1:-$OPENSEARCH_VERSION}
home=$PG2OS_DEV_HOME/opensearch-$version
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.opensearch.lock"; flock 9
[ ! -d "$home" ] || { echo "$home"; exit 0; }

say "fetching OpenSearch $version from Maven"
work=$(mktemp -d "$PG2OS_DEV_HOME/.opensearch.XXXXXX")
trap 'rm -rf "$work"' EXIT
maven() { mvn -B -q -Dmaven.repo.local="$PG2OS_DEV_HOME/maven" "$@" >&2; }
dependency=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

maven $dependency:copy -DoutputDirectory="$work" \
  -Dartifact=org.opensearch.distribution.integ-test-zip:opensearch:"$version":zip \
  || die "OpenSearch $version cannot be fetched: is the version on Maven Central?"
unzip -q "$work/opensearch-$version.zip" -d "$work"
new=$work/opensearch-$version

# The zip of 2.19 has only the transport module; the others are published as jars (the zips since 3.5 have them all).
# module | its jars, the module's own first | the module that it extends
modules='lang-painless|lang-painless opensearch-scripting-painless-spi|
reindex|reindex-client|
mapper-extras|mapper-extras-client|
parent-join|parent-join-client|
geo|geo|
ingest-common|ingest-common|lang-painless
analysis-common|analysis-common|lang-painless'

# One Maven run for all modules: a parent with a sub-project for each, whose outputDirectory is the module's folder.
write_projects() {
  local open='<project><modelVersion>4.0.0</modelVersion>' identity='<groupId>x</groupId><artifactId>x</artifactId><version>1</version>'
  local children='' dependencies name jars jar
  while IFS='|' read -r name jars _; do
    mkdir -p "$work/$name" "$new/modules/$name"
    children+="<module>$name</module>"
    dependencies=
    for jar in $jars; do
      dependencies+="<dependency><groupId>org.opensearch.plugin</groupId><artifactId>$jar</artifactId><version>$version</version></dependency>"
    done
    echo "$open<parent>$identity</parent><artifactId>$name</artifactId><packaging>pom</packaging>" \
      "<properties><outputDirectory>$new/modules/$name</outputDirectory></properties>" \
      "<dependencies>$dependencies</dependencies></project>" > "$work/$name/pom.xml"
  done <<< "$modules"
  echo "$open$identity<packaging>pom</packaging><modules>$children</modules></project>" > "$work/pom.xml"
}

finish_module() {
  local name=$1 main_jar=$2 extends=$3 folder=$new/modules/$1 jar class
  # A class that is found twice stops the server ("jar hell"): drop what lib/ has, whatever its version.
  for jar in "$folder"/*.jar; do
    ! compgen -G "$new/lib/$(basename "$jar" | sed -E 's/-[0-9][^-]*(-[A-Za-z0-9.]+)?\.jar$//')-[0-9]*" > /dev/null || rm "$jar"
  done
  class=$(unzip -Z1 "$folder/$main_jar-$version.jar" | grep 'Plugin\.class$' | head -1)
  cat > "$folder/plugin-descriptor.properties" <<END
name=$name
description=$name
version=$version
opensearch.version=$version
java.version=11
classname=$(tr / . <<< "${class%.class}")
extended.plugins=$extends
has.native.controller=false
END
}

if [ ! -d "$new/modules/reindex" ]; then
  write_projects
  maven -f "$work/pom.xml" $dependency:copy-dependencies -DincludeScope=runtime
  while IFS='|' read -r name jars extends; do finish_module "$name" "${jars%% *}" "$extends"; done <<< "$modules"
  cat > "$new/modules/lang-painless/plugin-security.policy" <<'END'
grant {
  permission java.lang.RuntimePermission "createClassLoader";
  permission java.lang.RuntimePermission "getClassLoader";
};
END
  cat > "$new/modules/reindex/plugin-security.policy" <<'END'
grant {
  permission java.net.SocketPermission "*", "connect";
  permission java.net.NetPermission "getProxySelector";
};
END
fi
chmod -R a+rX "$new"
chmod a+x "$new"/bin/*
mv "$new" "$home"
echo "$home"
