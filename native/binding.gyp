# Built against the headers beside the running node, never downloaded ones (PREFIX holds include/node):
#   npx node-gyp rebuild -C native --nodedir=PREFIX
# For another architecture, from a copy of this folder so that native/build stays as it is:
#   CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ npx node-gyp rebuild -C COPY --nodedir=PREFIX --arch=arm64
{
  'variables': {
    'warnings': ['-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Werror'],
  },
  'targets': [
    {
      'target_name': 'ostree_ts',
      'sources': [
        'addon.cc',
        'channel.cc',
        'contents.cc',
        'directory.cc',
        'mounts.cc',
        'pool.cc',
        'process.cc',
        'read-ahead.cc',
        'relay.cc',
        'sockets.cc',
        'syscalls.cc',
        'xattr.cc',
      ],
      'defines': ['NAPI_VERSION=9', 'NAPI_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'],
      # -isystem, so that our warnings are ours: node-addon-api's headers shadow names.
      'cflags_cc': [
        '-isystem',
        '<!(node -p "path.dirname(require.resolve(\'node-addon-api\'))")',
        '-std=c++20',
        '-O2',
        '-fvisibility=hidden',
        '-ffunction-sections',
        '<@(warnings)',
      ],
      # Static, so that a prebuilt addon needs nothing but glibc and libgcc_s, which node has loaded already. (A
      # static libgcc would raise the glibc floor from 2.34 to 2.35, for _dl_find_object.)
      'ldflags': ['-static-libstdc++', '-Wl,--exclude-libs,ALL', '-Wl,--gc-sections'],
    },
    {
      'target_name': 'keeper',
      'type': 'executable',
      'sources': [
        'keeper.cc',
        'keeper-daemon.cc',
        'keeper-find.cc',
        'keeper-later.cc',
        'keeper-mount.cc',
        'keeper-places.cc',
        'keeper-state.cc',
        'keeper-watch.cc',
      ],
      'cflags_cc': ['-std=c++20', '-O2', '<@(warnings)'],
      # Wholly static: no library of the tree that a session covers may be needed while it runs.
      'ldflags': ['-static'],
    },
    {
      'target_name': 'runner',
      'type': 'executable',
      'sources': ['runner.cc', 'runner-operations.cc'],
      'cflags_cc': ['-std=c++20', '-O2', '<@(warnings)'],
      # Its libraries may be the session's own.
      'ldflags': ['-static'],
    },
  ],
}
