/** A name for the session of a role, by pipeline and job, of the characters and the length that STS takes; undefined outside of a job. */
export function sessionName({ BUILD_PIPELINE_NAME, BUILD_JOB_NAME }: NodeJS.ProcessEnv): string | undefined {
  if (!BUILD_PIPELINE_NAME || !BUILD_JOB_NAME) return undefined;
  return `${BUILD_PIPELINE_NAME}-${BUILD_JOB_NAME}`.replace(/[^\w+=,.@-]/g, "-").slice(0, 64);
}

/** The URL of the build that runs this step, by the variables that Concourse sets; undefined outside of one. */
export function buildUrl(env: NodeJS.ProcessEnv): string | undefined {
  const { ATC_EXTERNAL_URL, BUILD_ID, BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME } =
    env;
  if (!ATC_EXTERNAL_URL || !BUILD_ID) return undefined;
  const root = ATC_EXTERNAL_URL.replace(/\/+$/, "");
  const names = [BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME];
  // The page of an instance of a pipeline has its variables in the URL as well; by its id, a build is found without.
  if (!names.every(Boolean) || env.BUILD_PIPELINE_INSTANCE_VARS) return `${root}/builds/${BUILD_ID}`;
  const [team, pipeline, job, build] = names.map((name = "") => encodeURIComponent(name));
  return `${root}/teams/${team}/pipelines/${pipeline}/jobs/${job}/builds/${build}`;
}
