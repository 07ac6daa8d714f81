/** Small packages in the format of rpm. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SPEC = `
Name: tool
Version: VERSION
Release: 1
Summary: a tool
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
A tool.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/tool/data
printf '#!/bin/sh\\necho tool VERSION\\n' > %{buildroot}/usr/bin/tool
chmod 755 %{buildroot}/usr/bin/tool
echo VERSION > %{buildroot}/usr/share/tool/data/a
ln %{buildroot}/usr/share/tool/data/a %{buildroot}/usr/share/tool/data/b
ln -s data/a %{buildroot}/usr/share/tool/link
%files
/usr/bin/tool
/usr/share/tool
`;

/** Builds the package `tool` in several versions, in a new folder. @returns their files. */
export function buildRpms(folder: string, versions: string[]): string[] {
  mkdirSync(folder, { recursive: true });
  return versions.map((version) => {
    const file = join(folder, `tool-${version}.spec`);
    writeFileSync(file, SPEC.replaceAll('VERSION', version));
    execFileSync('rpmbuild', ['-bb', '--define', `_topdir ${folder}`, file], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return join(folder, `RPMS/noarch/tool-${version}-1.noarch.rpm`);
  });
}
